"""Finding a network's file: downloads, pins, records. The server is a loopback one."""

from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dgray.base.networks.importing.sources import (
    ADDRESS,
    LICENCE,
    SHORT_NAMES,
    default_cache,
    locate,
    open_https,
)
from dgray.errors import SourceError

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves any path, and remembers which."""

    address: str
    paths: list[str] = field(default_factory=list)
    content: bytes = CONTENT
    promised: int = len(CONTENT)
    redirect: str = ""

    def open(self, url: str) -> object:
        """Open ``url`` on this server, regardless of its host."""
        return urllib.request.urlopen(self.address + "/" + url.split("://", 1)[1], timeout=10)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.paths.append(self.path)
            if self.path.endswith("missing.pkl"):
                self.send_error(404)
                return
            self.send_response(302 if state.redirect else 200)
            if state.redirect:
                self.send_header("Location", state.redirect)
            self.send_header("Content-Length", str(state.promised))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def find(
    source: str, cache: Path, server: Server, sha256: str | None = None
) -> tuple[Path, list[str]]:
    messages: list[str] = []
    path = locate(source, cache=cache, sha256=sha256, log=messages.append, open_url=server.open)
    return path, messages


def test_short_names_are_downloaded_once_with_their_licence(
    tmp_path: Path, server: Server
) -> None:
    name = SHORT_NAMES[0]
    path, messages = find(name, tmp_path / "cache", server)
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".pkl"
    assert messages[0] == LICENCE
    assert "CC BY-NC-SA 4.0" in LICENCE
    assert server.paths == [f"/{ADDRESS.split('://')[1]}{name}.pkl"]
    again, messages = find(name, tmp_path / "cache", server)
    assert again == path
    assert messages == []
    assert len(server.paths) == 1
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.sha256",
    ]
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{SHA256}  {path.name}\n"


def test_addresses_do_not_collide(tmp_path: Path, server: Server) -> None:
    first, _ = find("https://a.example/network.pkl", tmp_path, server, SHA256.upper())
    second, _ = find("https://b.example/network.pkl", tmp_path, server, SHA256)
    escape, _ = find("https://b.example/..%2f..%2fx?y=/../z", tmp_path, server)
    assert first != second
    assert {first.parent, second.parent, escape.parent} == {tmp_path}


def test_a_wrong_pin_leaves_nothing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(SourceError, match=f"pinned SHA-256 {'0' * 64}, but has {SHA256}"):
        find("https://a.example/network.pkl", tmp_path, server, "0" * 64)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SourceError, match="must be 64 hexadecimal digits, not 'abc'"):
        find("https://a.example/network.pkl", tmp_path, server, "abc")


def test_a_file_must_stay_what_it_was(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(CONTENT)
    located, messages = find(str(path), tmp_path, server)
    assert located == path
    assert messages == [f"SHA-256 {SHA256} of {path} recorded in network.pkl.sha256"]
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(
        SourceError, match=r"must not change after its first use.* remove .*network\.pkl\.sha256"
    ):
        find(str(path), tmp_path, server)
    path.with_name("network.pkl.sha256").unlink()
    assert find(str(path), tmp_path, server)[0] == path
    with pytest.raises(SourceError, match="pinned"):
        find(str(path), tmp_path, server, SHA256)
    path.with_name("network.pkl.sha256").write_text("")
    with pytest.raises(SourceError, match="must hold a SHA-256"):
        find(str(path), tmp_path, server)
    assert server.paths == []


def test_a_download_is_checked_again_at_every_use(tmp_path: Path, server: Server) -> None:
    path, _ = find(SHORT_NAMES[1], tmp_path, server)
    path.write_bytes(b"something else")
    with pytest.raises(SourceError, match="must not change after its first use"):
        find(SHORT_NAMES[1], tmp_path, server)


def test_downloads_that_end_early_or_are_missing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(SourceError, match=r"could not be downloaded \(HTTP Error 404"):
        find("https://a.example/missing.pkl", tmp_path, server)
    server.promised += 10
    with pytest.raises(SourceError, match="ended 10 bytes early"):
        find("https://a.example/network.pkl", tmp_path, server)
    assert not list(tmp_path.iterdir())


def test_only_https(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1/network.pkl", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(SourceError, match="must begin with https://"):
            locate(url, cache=tmp_path, sha256=None, log=lambda text: None)


def test_redirects_stay_with_https(server: Server) -> None:
    server.redirect = f"{server.address}/elsewhere?X-Amz-Signature=hunter2"
    message = r"/elsewhere\?X-Amz-Signature=\*\*\*, which is not https"
    with pytest.raises(urllib.error.URLError, match=message):
        open_https(f"{server.address}/network.pkl")
    assert server.paths == ["/network.pkl"]


def test_messages_contain_no_credentials(server: Server, tmp_path: Path) -> None:
    messages: list[str] = []
    url = "https://me:hunter2@a.example/network.pkl?token=hunter2"
    locate(url, cache=tmp_path, sha256=None, log=messages.append, open_url=server.open)
    assert "hunter2" in server.paths[-1]
    assert messages[0].startswith("downloading https://***@a.example/network.pkl?token=*** to ")
    assert "hunter2" not in " ".join(messages)
    with pytest.raises(SourceError, match=r"^https://\*\*\*@a.example/missing.pkl could not"):
        find("https://me:hunter2@a.example/missing.pkl", tmp_path, server)
    with pytest.raises(SourceError, match=r"not http://\*\*\*@a.example/x$"):
        locate("http://me:hunter2@a.example/x", cache=tmp_path, sha256=None, log=messages.append)


def test_unknown_sources(tmp_path: Path, server: Server) -> None:
    with pytest.raises(SourceError, match="did you mean edm-ffhq-64x64-uncond-vp"):
        find("edm-ffhq-64x64-uncond-pv", tmp_path, server)
    with pytest.raises(SourceError, match="short names: edm-cifar10"):
        find("my.pkl", tmp_path, server)


def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server
) -> None:
    monkeypatch.setenv("DGRAY_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own" / "networks"
    messages: list[str] = []
    path = locate(
        SHORT_NAMES[0], cache=None, sha256=None, log=messages.append, open_url=server.open
    )
    assert path.parent == default_cache()
    monkeypatch.delenv("DGRAY_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path("~/.cache/dgray/networks").expanduser()

"""Live reports: the page follows the rows, the server shows nothing else, and the run is read."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgray.cli import live_report
from dgray.cli.live_report import LiveReport, served_beside
from dgray.cli.main import main
from dgray.cli.report_server import ReportServer, address, listening_socket, new_token
from dgray.record.run_lock import RunLock
from tests.reporting.synthetic import counterexample, write_run

Fetch = Callable[[str], tuple[int, bytes]]


def fetched(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", counterexample())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportServer]:
    monkeypatch.setattr("dgray.reporting.build.render_figures", lambda *inputs: iter(()))
    monkeypatch.setattr(live_report, "_PAUSE", 0)
    copy = tmp_path / "copy" / "run"
    with ReportServer(listening_socket(), new_token(), copy) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def fetch(server: ReportServer) -> Fetch:
    return lambda name: fetched(address(server.socket, server.token) + name)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_page_follows_the_rows_and_the_run_is_unchanged(
    run: Path, server: ReportServer, fetch: Fetch
) -> None:
    aside = run.parent / "aside"
    (run / "rows").rename(aside)
    (run / "rows").mkdir()
    live = LiveReport(run, server, server.folder, is_beside=True)
    live.update()
    assert b"There are no rows yet" in fetch("")[1]
    first, *others = sorted(aside.iterdir())
    versions = []
    for parts in ([first], others):
        for part in parts:
            shutil.copy(part, run / "rows")
        before = contents(run)
        live.update()
        assert contents(run) == before
        state = json.loads(fetch("state.json")[1])
        versions.append(state["version"])
        count = len(list((run / "rows").iterdir()))
        assert f"{count} checkpoints" in state["text"]
        page = fetch("report.html")[1].decode()
        assert f"{count} trials" in page or count == 1
        assert f"const shown = {state['version']}," in page
    live.update()
    versions.append(json.loads(fetch("state.json")[1])["version"])
    assert versions == [2, 3, 3]
    live.close()


def test_only_the_report_is_served_and_only_with_the_token(
    run: Path, server: ReportServer, fetch: Fetch
) -> None:
    LiveReport(run, server, server.folder, is_beside=False).update()
    (server.folder / "figures").mkdir(exist_ok=True)
    (server.folder / "figures" / "finding.svg").write_bytes(b"<svg/>")
    assert fetch("report.parquet")[0] == 200
    assert fetch("figures/finding.svg") == (200, b"<svg/>")
    for name in (
        "study.lock.yaml",
        "provenance.json",
        "figures/../study.lock.yaml",
        "figures/%2e%2e/study.lock.yaml",
        "figures/finding.svg/",
        "/etc/passwd",
        "rows/",
        "figures/missing.png",
    ):
        assert fetch(name)[0] == 404, name
    port = server.socket.getsockname()[1]
    for path in ("", "/", "/report.html", f"/{server.token}x/", f"/{server.token[:-1]}/", "/../"):
        assert fetched(f"http://127.0.0.1:{port}{path}")[0] == 403, path
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_link_out_of_the_folder_is_not_followed(
    run: Path, server: ReportServer, fetch: Fetch, tmp_path: Path
) -> None:
    LiveReport(run, server, server.folder, is_beside=False).update()
    (tmp_path / "secret.svg").write_bytes(b"secret")
    (server.folder / "figures").mkdir(exist_ok=True)
    (server.folder / "figures" / "finding.svg").symlink_to(tmp_path / "secret.svg")
    status, content = fetch("figures/finding.svg")
    assert status == 404
    assert b"secret" not in content


def test_a_running_session_is_not_called_killed(
    run: Path, server: ReportServer, fetch: Fetch
) -> None:
    lock = RunLock(run)
    live = LiveReport(run, server, server.folder, is_beside=False)
    live.update()
    assert (server.folder / ".lock").read_text().startswith("process ")
    lock.release()
    (run / "rows" / "extra.parquet").write_bytes(b"damaged")
    live.update()
    assert (server.folder / ".lock").read_text() == ""


def test_reports_pause_in_proportion_to_their_cost(
    run: Path, server: ReportServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 5.0, 5.0, 49.0, 51.0, 51.0, 52.0, 52.0])
    monkeypatch.setattr(live_report, "_PAUSE", 9)
    made = []
    live = LiveReport(run, server, server.folder, is_beside=True)
    monkeypatch.setattr(live, "_make", lambda: made.append(1))
    monkeypatch.setattr(live_report.time, "monotonic", lambda: next(clock))
    live.update()  # takes 5 s, so that the next report is due at 50 s
    (run / "rows" / "more.parquet").write_bytes(b"")
    live.update()
    assert len(made) == 1
    live.update()
    assert len(made) == 2
    monkeypatch.undo()


@pytest.fixture
def ignored_sigint() -> Iterator[None]:
    """A shell ignores SIGINT in jobs that it starts with ``&``; child processes inherit it."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("ignored_sigint")
def test_the_server_beside_a_run_ends_with_it(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_report, "_END_SECONDS", 60.0)
    monkeypatch.delattr(subprocess.Popen, "kill")  # it ends by itself
    with served_beside(run):
        url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", capsys.readouterr().out)
        assert url is not None
        assert fetched(url[0])[0] == 200
    with pytest.raises(urllib.error.URLError):
        fetched(url[0])


def test_watching_ends_with_ctrl_c_and_status_0(run: Path) -> None:
    code = "import sys; from dgray.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "report", str(run), "--watch"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "live report: http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "the run is unchanged" in process.communicate(timeout=60)[0]
    assert process.returncode == 0


def test_what_cannot_be_watched_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nothing"), "--watch"]) == 2
    assert "study.lock.yaml, but this one has none" in capsys.readouterr().err
    assert main(["report", str(run), "--watch", "--check"]) == 2
    with listening_socket() as taken:
        port = str(taken.getsockname()[1])
        assert main(["report", str(run), "--watch", "--port", port]) == 2
        assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err

"""Where networks come from: a file, an https address, or a published network's short name.

Downloads go to a cache, once. The sha256 of a file is recorded beside it at first use and checked
ever after. Knows files and addresses; not torch.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from dgray.credentials import without_credentials
from dgray.errors import SourceError
from dgray.files import sha256_of, write_atomically

ADDRESS = "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/"
SHORT_NAMES = (
    "edm-cifar10-32x32-uncond-vp",
    "edm-cifar10-32x32-cond-vp",
    "edm-cifar10-32x32-uncond-ve",
    "edm-cifar10-32x32-cond-ve",
    "edm-ffhq-64x64-uncond-vp",
    "edm-ffhq-64x64-uncond-ve",
    "edm-afhqv2-64x64-uncond-vp",
    "edm-afhqv2-64x64-uncond-ve",
    "edm-imagenet-64x64-cond-adm",
)
LICENCE = (
    "NVIDIA's published EDM networks (Karras et al. 2022) are licensed under CC BY-NC-SA 4.0: "
    "attribution, non-commercial, share alike; "
    "https://creativecommons.org/licenses/by-nc-sa/4.0/"
)
RECORD_SUFFIX = ".sha256"
TIMEOUT = 60  # seconds without an answer


class Response(Protocol):
    """The part of an answer that a download needs."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes of the body; none at its end."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


OpenUrl = Callable[[str], Response]


def open_https(url: str) -> Response:
    """Ask for ``url``; whatever redirects there are must stay with https."""
    opener = urllib.request.build_opener(_HttpsOnly)
    response: Response = opener.open(url, timeout=TIMEOUT)
    return response


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent away from https."""

    def redirect_request(self, *arguments: object) -> urllib.request.Request | None:
        """See the class of the standard library; the last argument is the new address."""
        url = str(arguments[-1])
        if urlsplit(url).scheme != "https":
            shown = without_credentials(url)  # a signature, often
            raise urllib.error.URLError(f"redirected to {shown}, which is not https")
        return super().redirect_request(*arguments)  # type: ignore[arg-type]


def default_cache() -> Path:
    """$DGRAY_CACHE/networks, or dgray/networks in the user's cache."""
    if own := os.environ.get("DGRAY_CACHE"):
        return Path(own).expanduser() / "networks"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray" / "networks"


def locate(
    source: str,
    *,
    cache: Path | None,
    sha256: str | None,
    tell: Callable[[str], None],
    open_url: OpenUrl = open_https,
) -> Path:
    """The file of a network, downloaded if it must be, and known to be the one it was.

    Args:
        source: path of a file, https address, or one of ``SHORT_NAMES``.
        cache: folder of downloads; None: ``default_cache()``.
        sha256: what the file must have, 64 hexadecimal digits; None: what it had at first use.
        tell: hears of downloads, licences and records.
        open_url: asks for an address.

    Raises:
        SourceError: there is no such file, it could not be downloaded, or it is another one.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SourceError(f"sha256 must be 64 hexadecimal digits, not {sha256!r}")
    url = ADDRESS + source + ".pkl" if source in SHORT_NAMES else source
    if "://" not in url:
        path = Path(source).expanduser()
        if not path.is_file():
            raise SourceError(_missing(source))
        _check(path, sha256_of(path), sha256, tell)
        return path
    if urlsplit(url).scheme != "https" and open_url is open_https:
        raise SourceError(f"an address must begin with https://, not {without_credentials(url)}")
    path = (default_cache() if cache is None else cache) / _file_name(url)
    if not path.is_file():
        if source in SHORT_NAMES:
            tell(LICENCE)
        tell(f"downloading {without_credentials(url)} to {path}")
        _download(url, path, open_url, sha256)
    _check(path, sha256_of(path), sha256, tell)
    return path


def _file_name(url: str) -> str:
    """The name at the end of an address, made unique by a hash of the whole."""
    name = Path(unquote(urlsplit(url).path)).name or "network"
    plain = re.sub("[^A-Za-z0-9._-]", "_", name)
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{plain}"


def _download(url: str, path: Path, open_url: OpenUrl, pinned: str | None) -> None:
    def write(file: BinaryIO) -> None:
        response = open_url(url)
        try:
            shutil.copyfileobj(response, file)
        finally:
            response.close()
        expected = getattr(response, "length", None)  # what an HTTP answer still owes
        if expected:
            raise OSError(f"the answer ended {expected} bytes early")
        if pinned is not None:
            file.flush()
            _compare(without_credentials(url), sha256_of(Path(file.name)), pinned)

    try:
        write_atomically(path, write)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(
            f"{without_credentials(url)} could not be downloaded ({error}); without a network, "
            f"download it elsewhere and name the file instead, or put it at {path}"
        ) from error


def _check(path: Path, found: str, pinned: str | None, tell: Callable[[str], None]) -> None:
    """Compare with the pin and with the record; make the record if there is none."""
    if pinned is not None:
        _compare(path, found, pinned)
    record = path.with_name(path.name + RECORD_SUFFIX)
    try:
        recorded = record.read_text(encoding="ascii").split()[0]
    except FileNotFoundError:
        _record(record, path, found, tell)
        return
    except (IndexError, UnicodeDecodeError) as error:
        raise SourceError(f"{record} must hold a sha256, but does not; remove it") from error
    if recorded.lower() != found:
        raise SourceError(
            f"{path} must stay as it was at first use: sha256 {recorded} is recorded in {record}, "
            f"but it has {found}. If it was replaced on purpose, remove {record}"
        )


def _record(record: Path, path: Path, found: str, tell: Callable[[str], None]) -> None:
    try:
        # the format of sha256sum, which can check it
        write_atomically(record, lambda file: file.write(f"{found}  {path.name}\n".encode()))
    except OSError as error:
        tell(f"sha256 {found} of {path} cannot be recorded beside it ({error}); pin it")
    else:
        tell(f"sha256 {found} of {path} recorded in {record.name}")


def _compare(what: object, found: str, pinned: str) -> None:
    if found != pinned.lower():
        raise SourceError(
            f"{what} must have the pinned sha256 {pinned.lower()}, but it has {found}; get the "
            "right file, or pin this one if you trust it"
        )


def _missing(source: str) -> str:
    near = difflib.get_close_matches(source, SHORT_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"short names: {', '.join(SHORT_NAMES)}"
    return (
        f"a network must be a file, an https address or a short name; there is no file {source}; "
        f"{hint}"
    )

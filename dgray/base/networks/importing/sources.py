"""Sources of networks: a file, an https address, or the short name of a published network.

Downloads are cached. The SHA-256 of a file is recorded beside it at its first use and checked at
every later one.
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

from typing_extensions import override

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
    """Response to an HTTP request."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes of the body; none at its end."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


OpenUrl = Callable[[str], Response]


def open_https(url: str) -> Response:
    """Request ``url``; redirects must lead to https addresses."""
    opener = urllib.request.build_opener(_HttpsOnly)
    response: Response = opener.open(url, timeout=TIMEOUT)
    return response


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Handler of redirects that refuses other protocols than https."""

    @override
    def redirect_request(self, *arguments: object) -> urllib.request.Request | None:
        url = str(arguments[-1])  # the new address
        if urlsplit(url).scheme != "https":
            shown = without_credentials(url)  # it often has a signature
            raise urllib.error.URLError(f"redirected to {shown}, which is not https")
        return super().redirect_request(*arguments)  # type: ignore[arg-type]


def default_cache() -> Path:
    """Return $DGRAY_CACHE/networks, or dgray/networks in the user's cache folder."""
    if own := os.environ.get("DGRAY_CACHE"):
        return Path(own).expanduser() / "networks"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray" / "networks"


def locate(
    source: str,
    *,
    cache: Path | None,
    sha256: str | None,
    log: Callable[[str], None],
    open_url: OpenUrl = open_https,
) -> Path:
    """Return the file of a network, downloaded if necessary, after a check of its SHA-256.

    Args:
        source: path of a file, https address, or one of ``SHORT_NAMES``.
        cache: folder of downloads; None: ``default_cache()``.
        sha256: expected SHA-256, 64 hexadecimal digits; None: that of the first use.
        log: called with messages about downloads, licences and records.
        open_url: opens an address.

    Raises:
        SourceError: the file does not exist, cannot be downloaded, or has another SHA-256.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SourceError(f"sha256 must be 64 hexadecimal digits, not {sha256!r}")
    if not source.isprintable():
        raise SourceError(f"a network must be named by printable text, not {source!r}")
    url = ADDRESS + source + ".pkl" if source in SHORT_NAMES else source
    if "://" not in url:
        path = Path(source).expanduser()
        if not path.is_file():
            raise SourceError(_missing(source))
        _check(path, sha256_of(path), sha256, log)
        return path
    if urlsplit(url).scheme != "https" and open_url is open_https:
        raise SourceError(f"an address must begin with https://, not {without_credentials(url)}")
    path = (default_cache() if cache is None else cache) / _file_name(url)
    if not path.is_file():
        if source in SHORT_NAMES:
            log(LICENCE)
        log(f"downloading {without_credentials(url)} to {path}")
        _download(url, path, open_url, sha256)
    _check(path, sha256_of(path), sha256, log)
    return path


def local_path(source: str) -> Path | None:
    """Return the file of a network if it is on this machine, without downloading or checking it.

    Raises:
        SourceError: ``source`` is neither a file nor an address nor a short name.
    """
    url = ADDRESS + source + ".pkl" if source in SHORT_NAMES else source
    path = Path(source).expanduser() if "://" not in url else default_cache() / _file_name(url)
    if "://" not in url and not path.is_file():
        raise SourceError(_missing(source))
    return path if path.is_file() else None


def _file_name(url: str) -> str:
    """Return the last part of an address, made unique by a hash of the whole."""
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
        missing = getattr(response, "length", None)  # bytes of the body that were not received
        if missing:
            raise OSError(f"the response ended {missing} bytes early")
        if pinned is not None:
            file.flush()
            _compare(without_credentials(url), sha256_of(Path(file.name)), pinned)

    try:
        write_atomically(path, write)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(
            f"{without_credentials(url)} could not be downloaded ({error}); without internet "
            f"access, download it elsewhere and save it as {path}, or use its path"
        ) from error


def _check(path: Path, digest: str, pinned: str | None, log: Callable[[str], None]) -> None:
    """Compare the SHA-256 with the pinned and the recorded one; record it if none is."""
    if pinned is not None:
        _compare(path, digest, pinned)
    record = path.with_name(path.name + RECORD_SUFFIX)
    try:
        recorded = record.read_text(encoding="ascii").split()[0]
    except FileNotFoundError:
        _record(record, path, digest, log)
        return
    except (IndexError, UnicodeDecodeError) as error:
        raise SourceError(f"{record} must hold a SHA-256, but does not; remove it") from error
    if recorded.lower() != digest:
        raise SourceError(
            f"{path} must not change after its first use: {record} holds the SHA-256 {recorded}, "
            f"but it is now {digest}; restore the file, or remove {record} if the change is "
            "intended"
        )


def _record(record: Path, path: Path, digest: str, log: Callable[[str], None]) -> None:
    try:
        # in the format of sha256sum
        write_atomically(record, lambda file: file.write(f"{digest}  {path.name}\n".encode()))
    except OSError as error:
        log(f"the SHA-256 {digest} of {path} cannot be recorded ({error}); pin it instead")
    else:
        log(f"SHA-256 {digest} of {path} recorded in {record.name}")


def _compare(source: object, digest: str, pinned: str) -> None:
    if digest != pinned.lower():
        raise SourceError(
            f"{source} must have the pinned SHA-256 {pinned.lower()}, but has {digest}; download "
            "the file again, or pin its SHA-256 if you trust it"
        )


def _missing(source: str) -> str:
    near = difflib.get_close_matches(source, SHORT_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"short names: {', '.join(SHORT_NAMES)}"
    return (
        f"a network must be a file, an https address or a short name, but there is no file "
        f"{source}; {hint}"
    )

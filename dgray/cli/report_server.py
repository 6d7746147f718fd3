"""Server of a live report: on this machine only, and only for those who have the address."""

from __future__ import annotations

import json
import re
import secrets
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typing_extensions import override

from dgray.errors import DgrayError, OutputError
from dgray.files import inside

LOOPBACK = "127.0.0.1"
_PATH = re.compile(r"/([A-Za-z0-9_-]+)(/[^?#]*)?(?:\?.*)?")
_FILES = re.compile(r"(report|search)\.parquet|figures/[a-z0-9_]+\.(svg|pdf|png)")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "png": "image/png",
    "parquet": "application/vnd.apache.parquet",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address contains the token
    "X-Content-Type-Options": "nosniff",
}


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(18)


def listening_socket(port: int = 0) -> socket.socket:
    """Return a socket that listens on the loopback interface; port 0: a free one.

    Raises:
        OutputError: the port is in use or not permitted.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OutputError(
            f"port {port} of {LOOPBACK} cannot be used ({error}); give another with --port, or 0 "
            "for a free one"
        ) from error
    listener.listen()
    return listener


def address(listener: socket.socket, token: str) -> str:
    """Return the address of the report."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}/{token}/"


class ReportServer(ThreadingHTTPServer):
    """Server of the files of a report, of a page that follows them, and of nothing else.

    Args:
        listener: listening socket.
        token: first part of every path; others are refused with status 403.
        folder: folder of the report.

    Attributes:
        page: the page, or what is shown until there is one.
        state: progress of the run; ``version`` changes with the page.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, token: str, folder: Path) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.token, self.folder = token, folder
        self.page = b""
        self.state: dict[str, Any] = {"version": 0}


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version, sys_version = "dgray", ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        match = _PATH.fullmatch(self.path)
        if match is None or not secrets.compare_digest(match[1], self.server.token):
            self.send_error(HTTPStatus.FORBIDDEN, "the address lacks the token of this report")
            return
        if match[2] is None:
            self.send_response(HTTPStatus.MOVED_PERMANENTLY)
            self.send_header("Location", f"/{self.server.token}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = match[2].removeprefix("/") or "report.html"
        content = self._content(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such file of the report")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES[name.rpartition(".")[2]])
        self.send_header("Content-Length", str(len(content)))
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def _content(self, name: str) -> bytes | None:
        if name == "report.html":
            return self.server.page
        if name == "state.json":
            return json.dumps(self.server.state).encode()
        if not _FILES.fullmatch(name):
            return None
        try:
            return inside(self.server.folder, name).read_bytes()
        except (DgrayError, OSError):  # a link out of the folder; not drawn, or replaced just now
            return None

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line would hold the token."""

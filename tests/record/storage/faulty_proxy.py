"""HTTP proxy that injects faults of networks and servers, used in front of moto's S3 server."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RESET = struct.pack("ii", 1, 0)  # linger 0 seconds: closing sends RST
_NOT_FORWARDED = {"connection", "keep-alive", "expect", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Fault:
    """Fault of one request.

    Attributes:
        seconds: delay before anything else.
        status: HTTP status of the response sent instead of forwarding; 0: forward.
        code: S3 error code in that response.
        reset: reset the connection ``before`` or ``after`` the server receives the request.
        cut: send half of the body of the response, then reset.
    """

    seconds: float = 0.0
    status: int = 0
    code: str = "InternalError"
    reset: str = ""
    cut: bool = False


Choose = Callable[[str, str], Fault | None]  # of method and path


class FaultyProxy(ThreadingHTTPServer):
    """Forwards requests to ``target``; ``choose`` returns the fault of a request."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.choose: Choose = lambda method, path: None
        self.done: list[tuple[str, str, Fault | None]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def faulty_proxy(target: tuple[str, int]) -> Iterator[FaultyProxy]:
    with FaultyProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def _serve(self) -> None:
        body = self._body()
        with self.server.lock:
            fault = self.server.choose(self.command, self.path)
            self.server.done.append((self.command, self.path, fault))
        fault = fault or Fault()
        time.sleep(fault.seconds)
        if fault.reset == "before":
            return self._reset()
        if fault.status:
            text = f"<Error><Code>{fault.code}</Code><Message>as asked</Message></Error>"
            return self._answer(fault.status, {"Content-Type": "application/xml"}, text.encode())
        status, headers, content = self._forward(body)
        if fault.reset == "after":
            return self._reset()
        if fault.cut and content:
            self._answer(status, headers, content, sent=len(content) // 2)
            return self._reset()
        return self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailing headers
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.target, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _NOT_FORWARDED:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _NOT_FORWARDED}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length") or "0"
            return answer.status, headers, answer.read()

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()
        self.close_connection = True

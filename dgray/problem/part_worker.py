"""The child's side of ``dgray.problem.part_process``."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import cloudpickle

from dgray.catalogue import load_object
from dgray.problem.failure import describe

_ALIVE_SECONDS = 0.5
_exit = os._exit


def serve(connection: int, trace: int) -> None:
    """Run the functions that the parent sends, until it ends.

    Args:
        connection: descriptor of the socket.
        trace: descriptor of the file for the stack of a crash.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends this process
        signal.signal(number, lambda *signalled: None)
    faulthandler.enable(trace)
    worker = _Worker(Connection(connection))
    os._exit = worker.leave
    threading.Thread(target=worker.watch, daemon=True).start()
    while True:
        worker.run_next()


class _Worker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._modules: frozenset[str] = frozenset()
        self._process = os.getpid()

    def run_next(self) -> None:
        """Run one function and send its items, or the reason of its failure."""
        request = self._receive()
        try:
            function, arguments, self._modules = cloudpickle.loads(request)
            for item in load_object(function)(**arguments):
                self._send("item", item)
            self._send("end", None)
        except BaseException as error:  # of another package: any class is possible
            self._send("error", (describe(error), getattr(error, "field", "")))
        self._modules = frozenset()

    def watch(self) -> None:
        """Send for how long the present call of another package has been running, and where."""
        main = threading.main_thread().ident
        call, since = None, 0.0  # the frame is kept, so that its address is not reused
        while True:
            time.sleep(_ALIVE_SECONDS)
            frames = self._outside_frames(sys._current_frames().get(main or 0))
            if not frames or frames[-1] is not call:
                call, since = (frames[-1] if frames else None), time.monotonic()
            where = _place(frames[0], frames[-1]) if frames else ""
            self._send("alive", (time.monotonic() - since if frames else 0.0, where))
            del frames

    def leave(self, status: int) -> NoReturn:
        """Exit as ``os._exit``, which code of another package may call; send its place."""
        if os.getpid() == self._process:  # not in a fork of this process
            frames = self._outside_frames(sys._getframe(1))
            self._send("leaves", _place(frames[0], frames[-1]) if frames else "")
        _exit(status)

    def _outside_frames(self, frame: FrameType | None) -> list[FrameType]:
        """Return the frames of other packages, innermost first."""
        frames = []
        while frame is not None:
            if str(frame.f_globals.get("__name__")).partition(".")[0] in self._modules:
                frames.append(frame)
            frame = frame.f_back
        return frames

    def _receive(self) -> bytes:
        content: bytes = self._unless_orphan(self._connection.recv_bytes)
        return content

    def _send(self, kind: str, value: object) -> None:
        content = cloudpickle.dumps((kind, value))
        with self._lock:
            self._unless_orphan(lambda: self._connection.send_bytes(content))

    def _unless_orphan(self, transfer: Callable[[], Any]) -> Any:
        try:
            return transfer()
        except (EOFError, OSError):  # the parent has ended
            _exit(0)


def _place(innermost: FrameType, outermost: FrameType) -> str:
    name, file = outermost.f_code.co_name, Path(innermost.f_code.co_filename).name
    return f"{name} ({file}:{innermost.f_lineno})"

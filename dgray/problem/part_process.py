"""Process in which the code of other packages runs, so that it can neither end nor block a study.

A part of another package can exit, crash or hang. Artifacts and trials that use one are computed
in a child process under both engines, except trials with sampling actors. If the process ends, or
a call exceeds the time limit, ``PartError`` states the reason.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import math
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from dgray.catalogue import top_level_module
from dgray.config.study import StudyConfig
from dgray.errors import PartError
from dgray.problem.failure import LESS_MEMORY, too_long

_SCRIPT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dgray.problem.part_worker import serve; serve(*map(int, sys.argv[2:]))"
)
_SILENCE_SECONDS = 30.0  # beyond the limit, until a process that sends nothing is killed
_LINE = re.compile(r'File "(?:.*/)?([^"/]+)", line (\d+)')  # of a trace of faulthandler


def outside_modules(config: StudyConfig) -> frozenset[str]:
    """Return the top-level modules of other packages whose code a study calls.

    Modules that only exist in this process, as in a notebook, are left out: a child process cannot
    import them.
    """
    names = {top_level_module(path) for _, path in config.import_paths}
    return frozenset(name for name in names - {"dgray", "__main__"} if _is_importable(name))


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: made by code, without a file
        return False


def run_apart(
    config: StudyConfig,
    function: str,
    arguments: Mapping[str, Any],
    *,
    time_limit: float | None = None,
) -> Iterator[Any]:
    """Yield the items of ``function(**arguments)``, computed in a child process.

    Args:
        config: names the parts, and the time that one call of a part may take.
        function: import path ``"module:function"`` of a generator function.
        arguments: its keyword arguments.
        time_limit: seconds that a trial may take.

    Raises:
        PartError: if the function raises, the process ends, or a limit is exceeded.
    """
    if any(process.path != sys.path for process in _idle):
        end_idle()
    process = _idle.pop() if _idle else PartProcess()
    try:
        yield from process.run(function, arguments, config, time_limit or math.inf)
    finally:
        if process.is_idle:
            _idle.append(process)
        else:
            process.end()


def end_idle() -> None:
    """End the processes that are kept for the next computation."""
    while _idle:
        _idle.pop().end()


class PartProcess:
    """Child process that runs one function after the other.

    Attributes:
        path: places of its modules.
        is_idle: whether it can run another function.
    """

    def __init__(self) -> None:
        self.path = list(sys.path)
        ours, theirs = socket.socketpair()
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        descriptors = theirs.fileno(), self._trace.fileno()
        self._child = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, json.dumps(self.path), *map(str, descriptors)],
            pass_fds=descriptors,
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._left = ""  # place of a call of os._exit
        self.is_idle = True

    def run(
        self,
        function: str,
        arguments: Mapping[str, Any],
        config: StudyConfig,
        time_limit: float,
    ) -> Iterator[Any]:
        """Yield the items of a function (see ``run_apart``)."""
        self.is_idle = False
        limit = config.resources.part_time_limit or math.inf
        deadline = time.monotonic() + time_limit
        request = function, arguments, outside_modules(config)
        try:
            self._connection.send_bytes(cloudpickle.dumps(request))
            while (message := self._receive(limit, deadline))[0] == "item":
                yield message[1]
        except TimeoutError:
            raise PartError(too_long(time_limit)) from None
        except (EOFError, OSError):
            raise PartError(self._reason()) from None
        self.is_idle = True
        if message[0] == "error":
            raise PartError(*message[1])

    def _receive(self, limit: float, deadline: float) -> tuple[str, Any]:
        """Return the next message other than a heartbeat.

        Raises:
            EOFError: the process has ended.
            TimeoutError: the deadline has passed.
            PartError: a call takes longer than ``limit`` seconds.
        """
        heard, where = time.monotonic(), ""
        while time.monotonic() - heard < limit + _SILENCE_SECONDS:
            if time.monotonic() > deadline:
                raise TimeoutError
            if not self._connection.poll(1.0):
                continue
            message: tuple[str, Any] = cloudpickle.loads(self._connection.recv_bytes())
            heard = time.monotonic()
            if message[0] == "leaves":
                self._left = message[1]
            elif message[0] != "alive":
                return message
            elif message[1][0] > limit:
                where = message[1][1]
                break
        raise PartError(
            f"{where or 'code of another package'} did not return within "
            f"resources.part_time_limit, {limit:g} s; if it is slow but does not hang, raise the "
            "limit"
        )

    def _reason(self) -> str:
        """Return why the process has ended."""
        status = self._child.wait()
        self._trace.seek(0)
        line = _LINE.search(self._trace.read().decode("utf-8", "replace"))
        where = f" in {line[1]}:{line[2]}" if line else ""
        if status >= 0:
            called = f"{self._left} called os._exit: " if self._left else ""
            return f"{called}its process ended with status {status}{where}"
        name = signal.Signals(-status).name
        memory = f"; if the kernel did so, {LESS_MEMORY}" if -status == signal.SIGKILL else ""
        return f"its process was killed by {name}{where}{memory}"

    def end(self) -> None:
        """End the process."""
        self.is_idle = False
        self._child.kill()
        self._child.wait()
        self._connection.close()
        self._trace.close()


_idle: list[PartProcess] = []
atexit.register(end_idle)

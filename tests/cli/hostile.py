"""A hostile command line must be refused: a short message, quickly, and never a traceback."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import pytest

Refused = Callable[..., str]
Main = Callable[[Sequence[str]], int]
MAX_SECONDS = 2.0  # of processor time
MAX_WALL_SECONDS = 60  # the machine may be busy
MAX_LINES = 31
MAX_LINE = 1600


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Refused]:
    """Run a command line that must be refused, and return its message."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not refused within {MAX_WALL_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)

    def refused(main: Main, *arguments: str, status: int = 2) -> str:
        signal.alarm(MAX_WALL_SECONDS)
        started = time.process_time()
        try:
            assert main(arguments) == status
        finally:
            signal.alarm(0)
        assert time.process_time() - started < MAX_SECONDS
        message = capsys.readouterr().err
        lines = message.splitlines()
        assert 0 < len(lines) <= MAX_LINES
        assert all(line.isprintable() and len(line) <= MAX_LINE for line in lines)
        return message

    yield refused
    signal.signal(signal.SIGALRM, before)

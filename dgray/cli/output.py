"""Standard output and standard error that never end a command.

A terminal may lack the characters of a text, a reader may close its pipe (``| head -1``), and the
disk of a log may be full; a study that runs for hours must not end for any of these reasons.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

from typing_extensions import Buffer, override

_APPROXIMATE = "dgray.approximate"  # name of the error handler, for ``codecs``
_ASCII = {
    "±": "+-",
    "−": "-",
    "–": "-",
    "×": "x",
    "…": "...",
    "σ": "sigma",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "·": ".",
}


@contextlib.contextmanager
def robust_output() -> Iterator[None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` inside the block by streams that never raise.

    Streams that are replaced already, as by a test, are left alone.
    """
    codecs.register_error(_APPROXIMATE, _approximate)
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        _robust(sys.stdout, sys.__stdout__),
        _robust(sys.stderr, sys.__stderr__),
    )
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # closed by someone else
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def printed() -> int:
    """Return the exit status of a command whose result is what it printed: 1 if that is lost.

    A reader that has closed its pipe has read as much as it needs.
    """
    sys.stdout.flush()
    failure = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "failure", None)
    return int(failure is not None and failure.errno != errno.EPIPE)


class _LossyFile(io.RawIOBase):
    """File descriptor whose output is dropped once it cannot be written.

    Attributes:
        failure: why.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    @override
    def writable(self) -> bool:
        return True

    @override
    def fileno(self) -> int:
        return self._descriptor

    @override
    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    @override
    def write(self, content: Buffer, /) -> int:
        while self.failure is None:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
                if self._descriptor == 1:
                    print(
                        f"standard output cannot be written ({error.strerror}); the command "
                        "continues without it",
                        file=sys.stderr,
                        flush=True,
                    )
        return memoryview(content).nbytes


def _robust(stream: TextIO, original: TextIO | None) -> TextIO:
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_LossyFile(stream.fileno())),
        encoding=stream.encoding,
        errors=_APPROXIMATE,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _open_closed_descriptors() -> None:
    """Open the null device where a standard stream is closed, or a file would take its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        if descriptor == 1:
            sys.stdout = open(descriptor, "w", errors=_APPROXIMATE)  # noqa: SIM115
        elif descriptor == 2:
            sys.stderr = open(descriptor, "w", errors=_APPROXIMATE)  # noqa: SIM115
    os.close(descriptor)


def _approximate(error: UnicodeError) -> tuple[str, int]:
    """Return characters that an encoding has for those that it lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    texts = (_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(texts), error.end

"""Exit statuses and error messages, the same for all entry points."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from dgray.cli.output import printed, robust_output
from dgray.errors import INTERRUPTED, DgrayError, one_line
from dgray.files import disk_full


class Parser(argparse.ArgumentParser):
    """Parser of a command line that refuses it in one line."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}; see --help\n")


MAX_LINE = 1000  # characters of a message, which may repeat a long value


def exit_status(command: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Run a command and return its exit status; print the message of an error to stderr.

    Notes of an error (``BaseException.add_note``) are printed after its message.

    Args:
        command: returns the exit status of a run without errors.
        interrupted: message after an interrupt that has none of its own.

    Returns:
        The status of the command or of the error (``DgrayError.exit_status``), 2 if a file cannot
        be read or written, or 130 after an interrupt.
    """
    _ensure_home()
    with robust_output():
        return _status(command, interrupted)


def _status(command: Callable[[], int], interrupted: str) -> int:
    try:
        return command()
    except DgrayError as error:
        return _report(error, str(error), error.exit_status)
    except OSError as error:
        full = disk_full(error, Path(error.filename or "."))
        message = str(full or error)
        if full is None and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        return _report(error, message, 2 if full is None else full.exit_status)
    except UnicodeEncodeError as error:
        if error.encoding.lower() in ("utf-8", "utf8"):
            raise
        return _report(
            error,
            f"the locale's encoding, {error.encoding}, lacks a character of a file name; set "
            "PYTHONUTF8=1, or LC_ALL to a locale of UTF-8",
            2,
        )
    except KeyboardInterrupt as error:
        return _report(error, str(error) or interrupted, INTERRUPTED)
    except SystemExit as end:  # of argparse, after --help
        if end.code == 0:
            return printed()
        raise


def _report(error: BaseException, message: str, status: int) -> int:
    text = ". ".join([message, *getattr(error, "__notes__", [])])
    for line in text.splitlines():
        print(one_line(line, MAX_LINE), file=sys.stderr)
    return status


def _ensure_home() -> None:
    """Set HOME for a user without a home, as in some containers; Ray cannot be imported else."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"  # as Docker does

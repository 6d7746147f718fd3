"""Exit statuses and error messages, the same for all entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dgray.errors import INTERRUPTED, DgrayError
from dgray.files import disk_full


def exit_status(command: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Run a command and return its exit status; print the message of an error to stderr.

    Notes of an error (``BaseException.add_note``) are printed after its message.

    Args:
        command: returns the exit status of a run without errors.
        interrupted: message after Ctrl-C or SIGTERM, unless the interrupt has one of its own.

    Returns:
        The status of the command or of the error (``DgrayError.exit_status``), 2 if a file cannot
        be read or written, or 130 after an interrupt.
    """
    try:
        return command()
    except DgrayError as error:
        return _report(error, str(error), error.exit_status)
    except OSError as error:
        full = disk_full(error, Path(error.filename or "."))
        return _report(error, str(full or error), 2 if full is None else full.exit_status)
    except KeyboardInterrupt as error:
        return _report(error, str(error) or interrupted, INTERRUPTED)


def _report(error: BaseException, message: str, status: int) -> int:
    print(". ".join([message, *getattr(error, "__notes__", [])]), file=sys.stderr)
    return status

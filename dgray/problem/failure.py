"""Reason of a failure in one line, as it is stored in failed rows and printed."""

from __future__ import annotations

import traceback
from pathlib import Path

from dgray.credentials import without_credentials
from dgray.errors import DgrayError, one_line

LESS_MEMORY = (
    "it ran out of memory: lower evaluate.batch_size, evaluate.num_points or fit.batch_size, or "
    "resources.max_concurrent_trials"
)
MAX_LENGTH = 600  # characters
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")  # of torch

Made = bytes | str
"""An artifact, or the reason why it could not be made."""


def describe(error: BaseException) -> str:
    """Return the reason of a failure: type, message, and where it was raised.

    The message of an error of dgray states the rule, the value and the fix, so it is returned
    alone. An exit that user-defined code requested is a failure.
    """
    if isinstance(error, DgrayError):
        return one_line(without_credentials(str(error)), MAX_LENGTH)
    if isinstance(error, SystemExit):
        text = f"it called sys.exit({error.code!r})"
    else:
        text = "".join(traceback.format_exception_only(error))
    text = one_line(without_credentials(" ".join(text.split())), MAX_LENGTH)
    if _is_memory(error, text):
        text = f"{text}; {LESS_MEMORY}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else text


def too_long(limit: float) -> str:
    """Return the reason of a trial that exceeded its time limit (seconds)."""
    return (
        f"it took longer than resources.trial_time_limit, {limit:g} s; what it had stored is "
        "kept, and the same command resumes it"
    )


def _is_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError | OSError) and any(part in text for part in _NO_MEMORY)

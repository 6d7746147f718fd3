"""Reason of a worker's end, in one line, from Ray's message."""

from __future__ import annotations

import re

from dgray.credentials import without_credentials
from dgray.problem.failure import LESS_MEMORY

_LOW_MEMORY = "low on memory"  # the memory monitor of Ray
_USAGE = re.compile(r"was ([\d.]+ ?\w?B)(?: used)? / ([\d.]+ ?\w?B)")
_DETAIL = "Worker exit detail: "
_SILENT = "connection error code 2"  # the process closed its connection: no reason is known
_LONGEST = 200  # characters of a message of Ray


def loss_reason(message: str) -> str:
    """Return why a worker was lost, from the message of an error of Ray."""
    text = without_credentials(" ".join(message.split()))
    if _LOW_MEMORY in text:
        usage = _USAGE.search(text)
        amount = f" ({usage[1]} of {usage[2]} used)" if usage else ""
        return f"the memory of its node was nearly full{amount}, so Ray ended it; {LESS_MEMORY}"
    if _SILENT in text:
        return (
            "its process exited, crashed or was killed (Ray does not report which); if the kernel "
            f"killed it, {LESS_MEMORY}"
        )
    _, marker, detail = text.partition(_DETAIL)
    return detail.partition(" Some common causes")[0] if marker else text[-_LONGEST:].strip()

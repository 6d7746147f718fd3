"""Name of what a trial does to the base: its correction with its objective."""

from __future__ import annotations

GUIDANCE = "guidance"  # the correction of a study that names none


def method_name(correction: str, objective: str) -> str:
    """Return the name of a method, by which trials are called and reported.

    It is the objective for guidance, the correction where that has a loss of its own, or both.

    Args:
        correction: name of a correction, or ``base``.
        objective: name of the objective of its discriminator; else that of the correction.
    """
    is_one = correction in (GUIDANCE, objective)
    return objective if is_one else f"{correction}-{objective}"

"""Paired timing of two functions, and a description of the machine."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """Seconds of two functions, call by call."""

    first: list[float]
    second: list[float]

    def medians(self) -> tuple[float, float]:
        """Return the median seconds of each function."""
        return statistics.median(self.first), statistics.median(self.second)

    def ratios(self, digits: int) -> str:
        """Return the median, smallest and largest ratio second / first of a pair of calls."""
        ratios = [second / first for first, second in zip(*self, strict=True)]
        values = (statistics.median(ratios), min(ratios), max(ratios))
        median, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{median} ({low} to {high})"


def measure_in_turns(functions: Sequence[Callable[[], float]], repeats: int) -> Pair:
    """Call two functions in turn, each returning its seconds; which goes first alternates.

    A machine that becomes slower or busier meanwhile affects both functions alike.
    """
    seconds: Pair = Pair([], [])
    for turn in range(repeats):
        for index in (0, 1) if turn % 2 == 0 else (1, 0):
            seconds[index].append(functions[index]())
    return seconds


def machine() -> str:
    """Return date, processor and load in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{datetime.date.today().isoformat()}, {name}, {os.cpu_count()} CPUs{load}"

"""Costs of two functions that are called in turn, and a description of the machine."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """CPU seconds (of this process and of the children that it waited for) and wall clock."""

    cpu: float
    wall: float


def cost_of(function: Callable[[], object]) -> Cost:
    """Call the function and return what it cost."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    function()
    return Cost(_cpu_seconds() - cpu, time.perf_counter() - wall)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Pair(NamedTuple):
    """Costs of two functions, call by call."""

    first: list[Cost]
    second: list[Cost]

    def medians(self) -> tuple[float, float]:
        """Return the median CPU seconds of each function."""
        first, second = (statistics.median(cost.cpu for cost in costs) for costs in self)
        return first, second

    def median_ratio(self) -> float:
        """Return the median ratio of CPU seconds, second / first, of a pair of calls."""
        return statistics.median(self._ratios("cpu"))

    def ratios(self, digits: int, quantity: str = "cpu") -> str:
        """Return the median, smallest and largest ratio second / first of a pair of calls.

        Args:
            digits: decimals
            quantity: `cpu`, or `wall`, which other jobs on the machine disturb
        """
        ratios = self._ratios(quantity)
        values = (statistics.median(ratios), min(ratios), max(ratios))
        median, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{median} ({low} to {high})"

    def _ratios(self, quantity: str) -> list[float]:
        pairs = zip(self.first, self.second, strict=True)
        return [getattr(second, quantity) / getattr(first, quantity) for first, second in pairs]


def measure_in_turns(functions: Sequence[Callable[[], Cost]], repeats: int) -> Pair:
    """Call two functions in turn, each returning its cost; which goes first alternates.

    A machine that becomes slower or busier meanwhile affects both functions alike.
    """
    costs: Pair = Pair([], [])
    for turn in range(repeats):
        for index in (0, 1) if turn % 2 == 0 else (1, 0):
            costs[index].append(functions[index]())
    return costs


def machine() -> str:
    """Return date, processor and load in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{datetime.date.today().isoformat()}, {name}, {os.cpu_count()} CPUs{load}"

"""The Frechet distance at Inception's 2048 dimensions: dgray's and clean-fid's, turn by turn.

    python benchmarks/frechet.py

Both get the same means and covariances, which neither computes here. They take turns in one run,
and which goes first alternates. The table gives the ratio of a pair of turns, and how far the two
values are apart.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
from cleanfid.fid import frechet_distance as cleanfid_distance

from dgray.metrics.frechet import frechet_distance

DIMENSION = 2048
COUNTS = (10_000, 1000)  # images: more and fewer than dimensions
Arguments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Distance = Callable[..., float]


def gaussians(count: int) -> Arguments:
    """Moments of two sets of features whose spreads fall off, as Inception's do."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 0.02, DIMENSION)
    one, two = (
        np.abs(rng.standard_normal((count, DIMENSION)) @ rotation) * spread * scale
        for scale, rotation in ((1.0, np.eye(DIMENSION)), (1.1, _rotation(rng)))
    )
    return one.mean(0), np.cov(one, rowvar=False), two.mean(0), np.cov(two, rowvar=False)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]


def timed(distance: Distance, arguments: Arguments) -> tuple[float, float]:
    """Seconds, and the value."""
    started = time.perf_counter()
    value = distance(*arguments)
    return time.perf_counter() - started, float(value)


def measure(count: int, repeats: int) -> str:
    """A line of the table."""
    arguments = gaussians(count)
    ways = (frechet_distance, cleanfid_distance)
    seconds: dict[Distance, list[float]] = {way: [] for way in ways}
    values: dict[Distance, float] = {}
    for turn in range(repeats):
        for way in ways if turn % 2 == 0 else ways[::-1]:
            took, values[way] = timed(way, arguments)
            seconds[way].append(took)
    own, theirs = (seconds[way] for way in ways)
    ratios = [b / a for a, b in zip(own, theirs, strict=True)]
    apart = abs(values[ways[0]] / values[ways[1]] - 1)
    spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    medians = f"{statistics.median(own):.2f} | {statistics.median(theirs):.1f}"
    return f"| {count:,} | {medians} | {spread} | {apart:.0e} |"


def machine() -> str:
    """Date, processor, load and versions, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    date = datetime.date.today().isoformat()
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    return f"{date}, {name}, {os.cpu_count()} CPUs{load}, {versions}"


def main() -> None:
    """Measure with more and with fewer images than dimensions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of turns per case")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid's sqrtm(disp=False)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{machine()}; {repeats} pairs of turns, threads: {threads}\n")
    print("| images | dgray, s | clean-fid, s | clean-fid / dgray | values apart |")
    print("|---:|---:|---:|---:|---:|")
    for count in COUNTS:
        print(measure(count, repeats))


if __name__ == "__main__":
    main()

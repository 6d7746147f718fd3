"""Compare the Fréchet distances of dgray and clean-fid at the 2048 dimensions of Inception.

    python benchmarks/frechet.py

Both functions receive the same means and covariances and are called in turn. The table gives the
ratio of a pair of calls and the relative difference of the two values.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

import numpy as np
import scipy
from cleanfid.fid import frechet_distance as cleanfid_distance
from turns import machine, measure_in_turns

from dgray.metrics.frechet import frechet_distance

DIMENSION = 2048
COUNTS = (10_000, 1000)  # images: more and fewer than dimensions
Arguments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def gaussians(count: int) -> Arguments:
    """Return moments of two sets of features whose spectra decay as those of Inception do."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 0.02, DIMENSION)
    one, two = (
        np.abs(rng.standard_normal((count, DIMENSION)) @ rotation) * spread * scale
        for scale, rotation in ((1.0, np.eye(DIMENSION)), (1.1, _rotation(rng)))
    )
    return one.mean(0), np.cov(one, rowvar=False), two.mean(0), np.cov(two, rowvar=False)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]


def measure(count: int, repeats: int) -> str:
    """Return one line of the table."""
    arguments = gaussians(count)
    values: dict[str, float] = {}

    def timed(name: str, distance: Callable[..., float]) -> float:
        started = time.perf_counter()
        values[name] = float(distance(*arguments))
        return time.perf_counter() - started

    seconds = measure_in_turns(
        (lambda: timed("dgray", frechet_distance), lambda: timed("clean-fid", cleanfid_distance)),
        repeats,
    )
    difference = abs(values["dgray"] / values["clean-fid"] - 1)
    dgray, cleanfid = seconds.medians()
    return f"| {count:,} | {dgray:.2f} | {cleanfid:.1f} | {seconds.ratios(1)} | {difference:.0e} |"


def main() -> None:
    """Measure with more and with fewer images than dimensions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of calls per case")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid's sqrtm(disp=False)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"{machine()}, {versions}; {repeats} pairs of calls, threads: {threads}\n")
    print("| images | dgray, s | clean-fid, s | clean-fid / dgray | relative difference |")
    print("|---:|---:|---:|---:|---:|")
    for count in COUNTS:
        print(measure(count, repeats))


if __name__ == "__main__":
    main()

"""Compare the Fréchet distances of dgray and clean-fid at the 2048 dimensions of Inception.

    python -m benchmarks frechet

Both functions receive the same means and covariances and are called in turn. The table gives the
ratio of a pair of calls and the relative difference of the two values.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import numpy as np
import scipy
from cleanfid.fid import frechet_distance as cleanfid_distance

from benchmarks.turns import Cost, cost_of, machine, measure_in_turns
from dgray.metrics.frechet import frechet_distance

DIMENSION = 2048
COUNTS = (10_000, 1000)  # images: more and fewer than dimensions
REPEATS = 5  # pairs of calls per case
TOLERANCE = 1e-6  # relative difference; clean-fid's square root is inexact for n < d
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


def measure(count: int) -> str:
    """Return one line of the table."""
    arguments = gaussians(count)
    values: dict[str, float] = {}

    def call(name: str, distance: Callable[..., float]) -> Cost:
        def store() -> None:
            values[name] = float(distance(*arguments))

        return cost_of(store)

    pair = measure_in_turns(
        (lambda: call("dgray", frechet_distance), lambda: call("clean-fid", cleanfid_distance)),
        REPEATS,
    )
    difference = abs(values["dgray"] / values["clean-fid"] - 1)
    assert difference < TOLERANCE, values
    dgray, cleanfid = pair.medians()
    return f"| {count:,} | {dgray:.2f} | {cleanfid:.1f} | {pair.ratios(1)} | {difference:.0e} |"


def main() -> None:
    """Measure with more and with fewer images than dimensions."""
    warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid's sqrtm(disp=False)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"{machine()}, {versions}; {REPEATS} pairs of calls, threads: {threads}\n")
    print("| images | dgray, CPU s | clean-fid, CPU s | clean-fid / dgray | rel. difference |")
    print("|---:|---:|---:|---:|---:|")
    for count in COUNTS:
        print(measure(count), flush=True)


if __name__ == "__main__":
    main()

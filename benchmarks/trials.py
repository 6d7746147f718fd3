"""CPU seconds of the trials of `overfit`, beside those of an earlier commit.

Both commits run the study file of the earlier one (4 replicates, 4 checkpoints, 5 weights) with
100 samples and one width, in turns. Path KL and KL of the samples at constant weights must agree
within 0.01 standard errors, and the KL of the ODE within 0.05, since its tolerance has another
meaning now.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.turns import Cost, machine, measure_in_turns
from benchmarks.worktree import HERE, checked_out

BEFORE = "19b7b38"
WIDTHS = (4, 16, 64)
REPEATS = 5
AGREEMENT = {"path_kl": 0.01, "kl_sde": 0.01, "kl": 0.05}  # standard errors
KEY = ["objective", "replicate", "epoch", "guidance_weight", "sampler"]


def trial_cost(source: Path, study: Path, out: Path, width: int) -> Cost:
    """Run the trials of one width by the dgray in `source`; the wall clock is not measured."""
    overrides = [
        "data.num_real=100",
        f"discriminator.width={width}",
        "fit.objective=[cross_entropy, kl]",
    ]
    script = str(Path(__file__).with_name("trial_cpu.py"))
    done = subprocess.run(
        [sys.executable, script, str(study), str(out), "--set", *overrides],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Cost(float(done.stdout.splitlines()[-1]), np.nan)


def rows(run: Path) -> pd.DataFrame:
    """Return the rows of the trained trials of a run at constant weights."""
    frame = pd.concat(map(pd.read_parquet, sorted((run / "rows").glob("*.parquet"))))
    return frame[frame["guidance_weight"].notna() & (frame["objective"] != "base")]


def check(before: Path, now: Path) -> None:
    """Refuse two runs whose metrics differ."""
    both = rows(before).merge(rows(now), on=KEY, suffixes=("", "_now"))
    assert len(both) == len(rows(now)) > 0
    for metric, most in AGREEMENT.items():
        values = both[both[metric].notna()]
        difference = (values[f"{metric}_now"] - values[metric]).abs() / values[f"{metric}_se"]
        assert len(values) > 0
        assert difference.max() < most, f"{metric} differs by {difference.max()} standard errors"


def main() -> None:
    """Measure both commits in turns, and print a table."""
    print(machine())
    print(f"\n| width | s, {BEFORE} | s, now | before / now |\n|---:|---:|---:|---:|", flush=True)
    numbers = itertools.count()
    with checked_out(BEFORE) as before, tempfile.TemporaryDirectory() as folder:
        study = before / "studies" / "overfit.yaml"
        for width in WIDTHS:
            runs = {source: Path(folder, f"{width}-{source.name}") for source in (HERE, before)}

            def run(source: Path, width: int = width, runs: Mapping[Path, Path] = runs) -> Cost:
                return trial_cost(source, study, runs[source] / str(next(numbers)), width)

            pair = measure_in_turns([lambda: run(HERE), lambda: run(before)], REPEATS)
            check(*(min(runs[source].iterdir()) for source in (before, HERE)))
            now, earlier = pair.medians()
            print(f"| {width} | {earlier:.1f} | {now:.1f} | {pair.ratios(2)} |", flush=True)


if __name__ == "__main__":
    main()

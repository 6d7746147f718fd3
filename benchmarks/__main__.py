"""Run the benchmarks, all or the named ones, each in a process of its own.

python -m benchmarks [NAME...]
python -m benchmarks --list
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Benchmark(NamedTuple):
    """Module of this package with a function `main()`, its subject and duration."""

    name: str
    module: str
    subject: str
    minutes: float


TABLE = (
    Benchmark("replicates", "benchmarks.replicates", "replicates trained together or apart", 1),
    Benchmark("scale", "benchmarks.scale", "cost against trials and sizes; simulated cluster", 11),
    Benchmark("steps", "benchmarks.steps", "training steps against plain loops, KL against CE", 2),
    Benchmark("ode", "benchmarks.ode", "log-likelihoods against torchdiffeq", 3),
    Benchmark("grid", "benchmarks.grid", "the study overfit against plain scripts", 15),
    Benchmark("trials", "benchmarks.trials", "trials of overfit, against a commit before", 18),
    Benchmark("frechet", "benchmarks.frechet", "Fréchet distance against clean-fid", 4),
    Benchmark("actors", "benchmarks.actors", "images by sampling actors: none, one, two", 2),
    Benchmark("images", "benchmarks.images", "guided images against bare calls and DG's way", 3),
    Benchmark("report", "benchmarks.report", "reports of many rows, against a commit before", 15),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks; return the number of those that failed.

    Args:
        arguments: of the command line; default `sys.argv`
    """
    names = [benchmark.name for benchmark in TABLE]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="print the table and stop")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in names:
            parser.error(f"no benchmark is named {name!r}; choose from {', '.join(names)}")
    chosen = [b for b in TABLE if not options.names or b.name in options.names]
    if options.list:
        for benchmark in chosen:
            print(f"{benchmark.name:12} {benchmark.minutes:5g} min  {benchmark.subject}")
        return 0
    failed = [benchmark.name for benchmark in chosen if not succeeds(benchmark)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def succeeds(benchmark: Benchmark) -> bool:
    """Run one benchmark on one thread and print its output; return whether it succeeded."""
    print(f"\n## {benchmark.name}: {benchmark.subject}\n", flush=True)
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", benchmark.module]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

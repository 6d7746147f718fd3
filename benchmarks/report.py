"""CPU seconds and memory of `python -m dgray.report`, beside those of an earlier commit.

The runs are synthetic (`large_run.py`), of the layout of `studies/overfit.yaml`. Both commits
write the same numbers by their own writer and report them in turn. All numbers in the statements
of the earlier commit must be in those of the present one, which has more. The largest run is
reported by the present commit only, once.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.turns import machine
from benchmarks.worktree import HERE, checked_out

BEFORE = "3755977"
SIZES = (2600, 10_000)
LARGEST = 100_000
REPEATS = 5


class Report(NamedTuple):
    """Cost of one report, and the numbers in the statements that it printed."""

    cpu: float
    megabytes: float
    numbers: Counter[float]


def write(source: Path, run: Path, num_rows: int) -> None:
    """Write a run by the dgray in `source`."""
    _python(source, str(HERE / "benchmarks/large_run.py"), str(run), str(num_rows))


def report(source: Path, run: Path) -> Report:
    """Report a run by the dgray in `source`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dgray.report", str(run)],
        cwd=source,
        env=_environment(source),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the report of {run} failed")
    statements, _, _ = text.partition("\nreport: ")
    statements = re.sub(r"(?<=\d),(?=\d{3})", "", statements).replace("−", "-")
    numbers = Counter(float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", statements))
    return Report(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, numbers)


def main() -> None:
    """Measure both commits in turns, and print a table."""
    print(machine())
    print("\n| rows | s before | s now | before / now | MB before | MB now |")
    print("|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, checked_out(BEFORE) as before:
        for size in SIZES:
            _compare(before, HERE, Path(folder), size)
        run = Path(folder, "largest")
        write(HERE, run, LARGEST)
        largest = report(HERE, run)
        print(f"| {LARGEST:,} | | {largest.cpu:.1f} | | | {largest.megabytes:.0f} |")


def _compare(before: Path, now: Path, folder: Path, size: int) -> None:
    sources = {"before": before, "now": now}
    runs = {name: folder / f"{name}-{size}" for name in sources}
    for name, source in sources.items():
        write(source, runs[name], size)
    reports: dict[str, list[Report]] = {"before": [], "now": []}
    for turn in range(REPEATS):
        for name in sorted(sources, reverse=turn % 2 == 0):
            reports[name].append(report(sources[name], runs[name]))
    stated = {name: [made.numbers for made in side] for name, side in reports.items()}
    missing = [old - new for old, new in zip(stated["before"], stated["now"], strict=True)]
    assert not any(missing), f"numbers of the commit before are not stated now: {missing}"
    pairs = zip(reports["before"], reports["now"], strict=True)
    ratios = [old.cpu / new.cpu for old, new in pairs]
    cpu = [statistics.median(made.cpu for made in side) for side in reports.values()]
    memory = [statistics.median(made.megabytes for made in side) for side in reports.values()]
    print(
        f"| {size:,} | {cpu[0]:.1f} | {cpu[1]:.1f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {memory[0]:.0f} | {memory[1]:.0f} |",
        flush=True,
    )


def _python(source: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], env=_environment(source), check=True)


def _environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source)}


if __name__ == "__main__":
    main()

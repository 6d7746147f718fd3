"""Run one study in this process and print its costs as JSON: CPU by component, wall clock, memory.

python -m benchmarks.study_cost STUDY ENGINE OUT [no-report]
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dgray.cli.session as session
import dgray.reporting.build as build
from dgray.cli.main import main as dgray

MIB = 2**20


def main() -> None:
    """Run the study that the command line names."""
    study, engine, out, *rest = sys.argv[1:]
    seconds: Counter[str] = Counter()
    _time_call(build, "build_report", seconds, "report")
    if rest == ["no-report"]:
        session._show_report = lambda *arguments: None
    if engine == "local":
        _time_trials(seconds)
    started, cpu = time.perf_counter(), time.process_time()
    sys.argv = ["dgray", "run", study, "--engine", engine, "--out", out]
    with (
        open(os.devnull, "w") as quiet,
        contextlib.redirect_stdout(quiet),
        contextlib.suppress(SystemExit),
    ):
        dgray()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() - cpu
    costs = {
        "wall": time.perf_counter() - started,
        "trials": seconds["trials"],
        "report": seconds["report"],
        "driver": total - seconds["trials"] - seconds["report"],
        "start": cpu,  # imports
        "children": children.ru_utime + children.ru_stime,  # Ray's servers and workers
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
        "rows": len(list(Path(out, "rows").glob("*.parquet"))),
        "files": sum(len(files) for _, _, files in os.walk(out)),
        "disk_mib": sum(p.stat().st_size for p in Path(out).rglob("*") if p.is_file()) / MIB,
    }
    print(json.dumps(costs))


def _time_call(module: Any, name: str, seconds: Counter[str], component: str) -> None:
    """Add the CPU seconds of each call of a function to a component."""
    function: Callable[..., Any] = getattr(module, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        before = time.process_time()
        result = function(*arguments, **options)
        seconds[component] += time.process_time() - before
        return result

    setattr(module, name, timed)


def _time_trials(seconds: Counter[str]) -> None:
    """Add the CPU seconds of the trials of this process, without those of other threads."""
    from dgray.trial import run

    run_trial = run.run_trial

    def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
        results = run_trial(*arguments, **options)
        while True:
            before = time.thread_time()
            result = next(results, None)
            seconds["trials"] += time.thread_time() - before
            if result is None:
                return
            yield result

    run.run_trial = timed


if __name__ == "__main__":
    main()

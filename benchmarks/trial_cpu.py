"""Run a study with the dgray on `PYTHONPATH`, and print the CPU seconds of its trials.

python trial_cpu.py STUDY OUT [--set ...]

It is run with commits before the present one too, whose modules have other names.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import sys
import time
from collections.abc import Iterator
from typing import Any


def main() -> None:
    """Run the study in this process; trials are timed without their artifacts and reports."""
    module = _import_first("dgray.trial.run", "dgray.trial")
    run_trial, seconds = module.run_trial, 0.0

    def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
        nonlocal seconds
        results = run_trial(*arguments, **options)
        while True:
            before = time.process_time()
            result = next(results, None)
            seconds += time.process_time() - before
            if result is None:
                return
            yield result

    module.run_trial = timed
    study, out, *rest = sys.argv[1:]
    sys.argv = ["dgray.study", study, "--engine", "local", "--out", out, *rest]
    with (
        open(os.devnull, "w") as quiet,
        contextlib.redirect_stdout(quiet),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_module("dgray.study", run_name="__main__")
    print(seconds)


def _import_first(*names: str) -> Any:
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"none of {names} exists")


if __name__ == "__main__":
    main()

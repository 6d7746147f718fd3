"""``python -m dgray.report RUN``: rebuild the report of a run from its rows; no torch, no Ray."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dgray.reporting.build import NotARunError, build_report
from dgray.reporting.table import NoRowsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 if there is nothing to report."""
    parser = argparse.ArgumentParser(prog="python -m dgray.report", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    folder = parser.parse_args(arguments).run
    try:
        paths = build_report(folder)
    except (NotARunError, NoRowsError) as error:
        print(error, file=sys.stderr)
        return 2
    for statement in paths.finding.statements:
        print(statement.text)
    print(f"report:      {paths.page}\ntable:       {paths.table}")
    print(f"figures:     {folder / 'figures'}")
    print(f"TensorBoard: tensorboard --logdir {paths.tensorboard}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

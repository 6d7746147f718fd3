"""``python -m dgray.study STUDY.yaml``: load -> plan -> artifacts -> engine -> report.

Exit status: 0 every row is there; 1 some are not, as after a full disk or when Ray died; 2 the
study or the run folder was refused; 130 interrupted. torch and Ray are imported only when
something runs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dgray.cli.plan_view import render_plan
from dgray.config.reading.load import load_study
from dgray.config.reading.problem import StudyError
from dgray.credentials import has_credentials, without_credentials
from dgray.engine.attempt import EngineFailed, StoreFailed
from dgray.engine.interrupt import INTERRUPTED, interruptible
from dgray.files import disk_full
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.record.run_lock import RunRefused
from dgray.record.storage.location import Uri, location


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the value is the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser().parse_args(given)
    with interruptible():
        try:
            _refuse_credentials(given)
            out = location(args.out) if args.out else None
            plan = make_plan(load_study(args.study, args.overrides))
            if args.plan:
                Console().print(render_plan(plan, estimate(plan, cpus=os.cpu_count() or 1)))
                return 0
            return _run(plan, args, given, out)
        except (StudyError, RunRefused) as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted before anything was started", file=sys.stderr)
            return INTERRUPTED


def _refuse_credentials(given: Sequence[str]) -> None:
    """A command is seen by everybody on the machine, and goes into histories, logs and records."""
    for word in filter(has_credentials, given):
        raise RunRefused(
            f"{without_credentials(word)}: an address on the command line must not carry "
            "credentials; give them by the environment (AWS_ACCESS_KEY_ID and its like), by a "
            "file of the storage's own (~/.aws/credentials), or by the role of the machine"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dgray.study", description="Run a study, or go on with it."
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument("--plan", action="store_true", help="show what would run, and stop")
    parser.add_argument(
        "--out",
        metavar="DIR|URI",
        help="run folder (default: runs/NAME), or s3://BUCKET/PATH, gs://BUCKET/PATH",
    )
    parser.add_argument(
        "--engine", choices=("ray", "local"), default="ray", help="local: in this process"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="a.b=value",
        nargs="+",
        action="extend",
        default=[],
        help="override fields of the study",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start anew in a new folder; the old one stays"
    )
    return parser


def _run(
    plan: Plan, args: argparse.Namespace, given: Sequence[str], out: Path | Uri | None
) -> int:
    from dgray.cli.session import run_study
    from dgray.problem.shared import ArtifactFailed  # torch, pyarrow: not for --help and --plan
    from dgray.record.open_run import open_run
    from dgray.record.storage.store import StoreError

    folder = open_run(plan, out, args.fresh)
    again = [word for word in given if word != "--fresh"]
    where = [] if args.out and not args.fresh else ["--out", str(folder.where)]
    go_on = f"To go on: {shlex.join(['python', '-m', 'dgray.study', *again, *where])}"
    try:
        is_complete = run_study(plan, folder, engine=args.engine, arguments=given, go_on=go_on)
    except (ArtifactFailed, StoreFailed, EngineFailed) as error:
        print(f"{error}. {go_on}", file=sys.stderr)
        return 1
    except OSError as error:
        full = disk_full(error, Path(error.filename or folder.path))
        if full is None:
            raise
        print(f"{full}. {go_on}", file=sys.stderr)
        return 1
    except StoreError as error:
        print(f"{error}. {go_on}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if folder.lost is not None:
            print(f"{folder.lost}. {go_on}", file=sys.stderr)
            return 1
        print(f"interrupted; what was finished is kept. {go_on}", file=sys.stderr)
        return INTERRUPTED
    finally:
        folder.close()
    return 0 if is_complete else 1

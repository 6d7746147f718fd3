"""Tables of runs for the terminal, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgray.cli.find_runs import overviews
from dgray.cli.output import printed
from dgray.reporting.legible import printable
from dgray.reporting.overview import RunOverview, TrialOverview

_COLOURS = {"complete": "green", "running": "cyan", "damaged": "red", "unreadable": "red"}
_WIDE = 160  # characters of a line where the output is no terminal


def list_runs(places: Sequence[str], *, as_json: bool) -> int:
    """Print one line a run."""
    runs = overviews(places)
    if as_json:
        _print_json(runs)
        return _status(runs)
    table = _table("run", "state", "rows", "best", "when", "size")
    for run in runs:
        size = _size(run.num_bytes)
        table.add_row(run.place, _state(run), _rows(run), _best(run), _when(run), size)
    console = _console()
    console.print(table)
    for run in runs:
        if run.state in ("damaged", "unreadable"):
            _print_problems(console, run, f"{run.place}: ")
    return _status(runs)


def show_runs(places: Sequence[str], *, as_json: bool) -> int:
    """Print each run with its trials and problems."""
    runs = overviews(places)
    if as_json:
        _print_json(runs)
        return _status(runs)
    console = _console()
    for number, run in enumerate(runs):
        if number:
            console.print()
        facts = Table.grid(padding=(0, 2))
        facts.add_row("run", Text(run.place, style="bold"))
        facts.add_row("study", printable(run.study))
        facts.add_row("state", _state(run))
        facts.add_row("rows", _rows(run))
        facts.add_row("best", _best(run))
        facts.add_row("when", _when(run))
        facts.add_row("size", _size(run.num_bytes))
        console.print(facts)
        _print_problems(console, run, "missing: ")
        if run.trials:
            console.print(_trials(run.trials))
    return _status(runs)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        is_number = column in ("rows", "size")
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return table


def _trials(trials: Sequence[TrialOverview]) -> Table:
    table = _table("trial", "id", "rows", "state")
    for trial in trials:
        planned = trial.rows_planned
        is_done = planned is None or trial.rows_done >= planned
        state = f"failed: {trial.reason}" if trial.reason else "" if is_done else "incomplete"
        if planned is not None and not trial.rows_done and not trial.reason:
            state = "not started"
        table.add_row(
            printable(trial.name), trial.id, _count(trial.rows_done, planned), printable(state)
        )
    return table


def _state(run: RunOverview) -> Text:
    return Text(run.state, style=_COLOURS.get(run.state, "yellow"))


def _rows(run: RunOverview) -> str:
    text = _count(run.rows_done, run.rows_planned)
    if run.rows_failed:
        text += f", {run.rows_failed} failed"
    return text + "".join(f", search: {points} points" for points in run.points)


def _count(done: int, planned: int | None) -> str:
    return str(done) if planned is None else f"{done}/{planned}"


def _best(run: RunOverview) -> Text:
    return Text(printable(run.best) or "-")


def _when(run: RunOverview) -> str:
    """Return the end of the run, or its start, in local time."""
    text = run.finished_at or run.started_at
    try:
        time = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return "-"
    return f"{'' if run.finished_at else 'since '}{time:%Y-%m-%d %H:%M}"


def _size(num_bytes: int) -> str:
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def _print_problems(console: Console, run: RunOverview, start: str) -> None:
    for problem in run.problems:
        text = printable(f"{start}{problem.removeprefix(f'{run.place}: ')}")
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_json(runs: Sequence[RunOverview]) -> None:
    print(json.dumps([asdict(run) for run in runs], indent=1))


def _status(runs: Sequence[RunOverview]) -> int:
    """Return the exit status: 1 if a run is damaged or cannot be read."""
    is_bad = any(run.state in ("damaged", "unreadable") for run in runs)
    return 1 if is_bad else printed()

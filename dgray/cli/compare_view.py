"""A comparison of runs on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dgray.cli.output import printed
from dgray.files import output_folder
from dgray.reporting.compare.differences import Difference
from dgray.reporting.compare.report import METHOD, RunsComparison, compare_runs
from dgray.reporting.legible import printable
from dgray.reporting.presentation import objective

MAX_LINES = 20  # differences of the same settings that the terminal shows


def show(places: Sequence[str], out: Path | None) -> int:
    """Compare runs, print the comparison, write it to a folder, and return the exit status."""
    folder = None if out is None else output_folder(out)
    comparison = compare_runs(places)
    Console().print(render_comparison(comparison))
    if folder is not None:
        page, table = comparison.save(folder)
        print(f"page:  {page}\ntable: {table}")
    return printed()


def render_comparison(comparison: RunsComparison) -> RenderableType:
    """Return a comparison for the terminal: fields, differences, and what is impossible."""
    return Group(*_parts(comparison))


def _parts(comparison: RunsComparison) -> Iterator[RenderableType]:
    for text in comparison.incomplete:
        yield Text(f"incomplete run: {printable(text)}")
    if comparison.fields.empty:
        yield Text("The studies and versions are the same.")
    else:
        yield _fields(comparison)
    if comparison.best:
        yield _differences("best models, selected on validation", comparison.best)
    same = comparison.same
    if same:
        shown = same[:MAX_LINES]
        of = f" ({len(shown)} of {len(same)}, most significant first)" if same[MAX_LINES:] else ""
        yield _differences(f"the same settings{of}", shown)
    if not comparison.differences:
        yield Text("No model of one run can be compared with one of the reference.")
    for text in comparison.identical:
        yield Text(printable(text))
    for text in comparison.impossible:
        yield Text(f"not compared: {printable(text)}")
    yield Text(METHOD, style="dim")


def _fields(comparison: RunsComparison) -> Table:
    table = _table("what differs in the studies")
    for name in comparison.fields.columns:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in comparison.fields.itertuples(index=False):
        table.add_row(*(Text(printable(str(value))) for value in row))
    return table


def _differences(title: str, differences: Sequence[Difference]) -> Table:
    table = _table(title)
    for name in ("run", "model", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("reference", "run", "difference", "p"):
        table.add_column(name, justify="right")
    for d in differences:
        model = ", ".join(filter(None, [objective(d.objective).title, d.setting]))
        mark = {1: "higher", -1: "lower"}.get(d.sign, "")
        p = "not tested" if d.adjusted_p != d.adjusted_p else f"{d.adjusted_p:.2g} {mark}".strip()
        numbers = [str(number or "") for number in (d.reference_value, d.value)]
        kind = "" if d.is_paired else " (joint)"
        cells = [d.run, model, d.metric, *numbers, f"{d.estimate.signed}{kind}", p]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )

"""The summary of a study as a table for the console. Knows rich; neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from dgray.reporting.summary import SummaryRow

_COLUMNS = {
    "path_kl": "path KL",
    "path_kl_change": "its change",
    "kl": "KL (ODE)",
    "kl_sde": "KL (SDE)",
}
_HEADING = "nats, on held-out data"
_NAME_WIDTH = 26  # the longest name, "cross_entropy at its worst"
_GAP = 2


def render_summary(rows: Sequence[SummaryRow], width: int) -> Table:
    """Base, oracle, best and worst settings; all divergences in nats, with standard errors.

    Args:
        rows: the lines.
        width: characters there are. If they are few the change of the path KL is left out, since
            it can be read off the path KLs; if they are fewer still, values wrap.
    """
    texts = {name: [_text(row, name) for row in rows] for name in _COLUMNS}
    shown = {name: lines for name, lines in texts.items() if any(lines)}
    if _NAME_WIDTH + sum(_GAP + _width(name, lines) for name, lines in shown.items()) > width:
        shown.pop("path_kl_change", None)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(_HEADING, min_width=_NAME_WIDTH)
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right")
    for index, row in enumerate(rows):
        words = Text(row.name)
        if row.setting:
            words.append(f"\n  {row.setting}", style="dim")
        table.add_row(words, *(lines[index] for lines in shown.values()))
    return table


def _text(row: SummaryRow, name: str) -> str:
    value = getattr(row, name)
    return "" if value is None else str(value)


def _width(name: str, lines: Sequence[str]) -> int:
    return max(map(len, [_COLUMNS[name], *lines]))

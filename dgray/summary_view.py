"""The summary of a study as a table for the console. Knows rich; neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from dgray.reporting.summary import SummaryRow

_COLUMNS = {
    "path_kl": "path KL",
    "path_kl_change": "change",
    "kl": "KL (ODE)",
    "kl_sde": "KL (SDE)",
}


def render_summary(rows: Sequence[SummaryRow]) -> Table:
    """Base, oracle, best and worst settings; all divergences in nats, with standard errors."""
    shown = [name for name in _COLUMNS if any(getattr(row, name) is not None for row in rows)]
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("nats, on held-out data", overflow="fold")
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    for row in rows:
        words = f"{row.name}: {row.setting}" if row.setting else row.name
        values = (getattr(row, name) for name in shown)
        table.add_row(words, *("" if value is None else str(value) for value in values))
    return table

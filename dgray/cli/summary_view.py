"""Summary of a study as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dgray.reporting.presentation import PATH_KL
from dgray.reporting.text.summary import SummaryRow

_HEADING = "held-out data, KL in nats"
_CAPTION = "best: selected on the validation split; worst: highest held-out change of the path KL"
_GAP = 2


def render_summary(rows: Sequence[SummaryRow], columns: Mapping[str, str], width: int) -> Table:
    """Return the summary as a table: one line per model, with standard errors.

    Args:
        rows: the lines.
        columns: columns and their headings; those without values are left out.
        width: characters of a line. If they do not suffice, the change of the path KL is left
            out, as the path KL shows it too, and then errors go below their values.
    """
    texts = {name: [str(row.estimates.get(name, "")) for row in rows] for name in columns}
    shown = {name: lines for name, lines in texts.items() if any(lines)}
    name_width = max(map(len, [_HEADING, *(row.name for row in rows)]))

    def is_too_wide() -> bool:
        widths = (_GAP + _longest([columns[name], *lines]) for name, lines in shown.items())
        return name_width + sum(widths) > width

    if is_too_wide() and PATH_KL in shown:
        shown.pop(f"{PATH_KL}_change", None)
    is_narrow = is_too_wide()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    if any(row.name.startswith("best ") for row in rows):
        table.caption, table.caption_justify = Text(_CAPTION, style="dim"), "left"
    table.add_column(_HEADING, min_width=name_width)
    if is_narrow:
        shown = {
            name: [line.replace(" ±", "\n±") for line in lines] for name, lines in shown.items()
        }
    for name, lines in shown.items():
        parts = [*columns[name].split(), *"\n".join(lines).split("\n")]
        narrow = _longest(parts) if is_narrow else None
        table.add_column(columns[name], justify="right", width=narrow)
    for index, row in enumerate(rows):
        table.add_row(_named(row), *(lines[index] for lines in shown.values()))
    return table


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts))


def _named(row: SummaryRow) -> RenderableType:
    if not row.setting:
        return Text(row.name)
    return Group(Text(row.name), Padding(Text(row.setting, style="dim"), (0, 0, 0, 2)))

"""The summary of a study as a table for the console. Knows rich; neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dgray.reporting.text.summary import COLUMNS, SummaryRow

_HEADING = "held-out data, KLs in nats"
_CAPTION = "best: chosen on the validation split; worst: of all at one weight, on held-out data"
_NAME_WIDTH = 26  # the longest name, "cross_entropy at its worst"
_GAP = 2


def render_summary(rows: Sequence[SummaryRow], width: int) -> Table:
    """Base, oracle, best and worst settings; KLs in nats, all with standard errors.

    Args:
        rows: the lines.
        width: characters there are. If they are few the change of the path KL is left out, since
            it can be read off the path KLs; if they are fewer still, errors stand below their
            values.
    """
    texts = {name: [_text(row, name) for row in rows] for name in COLUMNS}
    shown = {name: lines for name, lines in texts.items() if any(lines)}
    if _needed(shown) > width and "path_kl" in shown:
        shown.pop("path_kl_change", None)
    is_narrow = _needed(shown) > width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    if any(row.name.startswith("best ") for row in rows):
        table.caption, table.caption_justify = Text(_CAPTION, style="dim"), "left"
    table.add_column(_HEADING, min_width=_NAME_WIDTH)
    if is_narrow:
        shown = {
            name: [line.replace(" ±", "\n±") for line in lines] for name, lines in shown.items()
        }
    for name, lines in shown.items():
        parts = [*COLUMNS[name].split(), *"\n".join(lines).split("\n")]
        narrow = _longest(parts) if is_narrow else None
        table.add_column(COLUMNS[name], justify="right", width=narrow)
    for index, row in enumerate(rows):
        table.add_row(_named(row), *(lines[index] for lines in shown.values()))
    return table


def _needed(shown: Mapping[str, Sequence[str]]) -> int:
    widths = (_GAP + _longest([COLUMNS[name], *lines]) for name, lines in shown.items())
    return _NAME_WIDTH + sum(widths)


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts))


def _named(row: SummaryRow) -> RenderableType:
    if not row.setting:
        return Text(row.name)
    return Group(Text(row.name), Padding(Text(row.setting, style="dim"), (0, 0, 0, 2)))


def _text(row: SummaryRow, name: str) -> str:
    return str(row.estimates.get(name, ""))

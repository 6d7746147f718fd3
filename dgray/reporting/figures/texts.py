"""Text in figures: fitted to panels, and drawn as it is, whatever characters it has."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from dgray.reporting.legible import escaped, printable

FAMILY = "DejaVu Sans"  # part of matplotlib: the same picture on every machine
_LINE = 1.35  # distance of lines in font sizes
_HEADING, _PANEL = 0.9, 0.78  # shares of the width of a figure, of a panel, that text may take
_COLORBAR = 90.0  # points beside the panels


def drawable(text: str) -> str:
    """Replace characters that are invisible or missing in the font by escapes."""
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join("".join(c if _has_glyph(c) else escaped(c) for c in line) for line in lines)


def text_width(text: str, size: float) -> float:
    """Return the width of one line in points."""
    font = FontProperties(family=FAMILY, size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def wrapped(text: str, width: float, size: float) -> str:
    """Break lines at spaces, and words that are too long anywhere, to a width in points."""
    return "\n".join(line for part in text.split("\n") for line in _lines(part, width, size))


def fit_texts(figure: Figure, heading: str) -> None:
    """Wrap titles and labels to their panels, and make the figure higher by the lines added."""
    heading_text = figure.suptitle(heading, fontsize=11)
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text():
            text.set_text(drawable(text.get_text()))
    width, height = 72 * figure.get_size_inches()
    added = _fit(heading_text, _HEADING * width)
    if any(axes.get_label() == "<colorbar>" for axes in figure.axes):
        width -= _COLORBAR
    title_lines: defaultdict[int, float] = defaultdict(float)
    for axes in figure.axes:
        row, rows, columns = _place(axes)
        lines = _fit(axes.title, _PANEL * width / columns)
        title_lines[row] = max(title_lines[row], lines)
        _fit(axes.xaxis.label, _PANEL * width / columns)
        _fit(axes.yaxis.label, _PANEL * height / rows)
    figure.set_figheight((height + added + sum(title_lines.values())) / 72)


def _fit(text: Text, width: float) -> float:
    """Wrap a text; return the height of the lines beyond the first, in points."""
    size = float(text.get_fontsize())
    text.set_text(wrapped(text.get_text(), width, size))
    return _LINE * size * text.get_text().count("\n")


def _place(axes: Axes) -> tuple[int, int, int]:
    """Row of a panel, and the numbers of rows and columns of the figure."""
    spec = axes.get_subplotspec()
    if spec is None:
        return 0, 1, 1
    rows, columns, first, _ = spec.get_geometry()
    return math.floor(first / columns), rows, columns


def _lines(text: str, width: float, size: float) -> Iterator[str]:
    line = ""
    for word in _words(text, width, size):
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size) > width:
            yield line
            longer = word
        line = longer
    yield line


def _words(text: str, width: float, size: float) -> Iterator[str]:
    for word in text.split(" "):
        while text_width(word, size) > width:
            count = max(1, int(len(word) * width / text_width(word, size)))
            yield word[:count]
            word = word[count:]
        yield word


@cache
def _has_glyph(character: str) -> bool:
    return get_font(findfont(FAMILY)).get_char_index(ord(character)) != 0

"""Text in figures: fitted to panels, and drawn as it is, whatever characters it has."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from dgray.reporting.figures.style import current_style, has_glyph, points
from dgray.reporting.legible import escaped, printable

_LINE = 1.35  # distance of lines in font sizes
_HEADING, _PANEL = 0.9, 0.78  # shares of the width of a figure, of a panel, that text may take
_NARROW_PANEL = 0.66  # the labels of its axis take more of a narrow panel
_COLORBAR = 90.0  # points beside the panels


def drawable(text: str) -> str:
    """Replace characters that are invisible or missing in the font by escapes."""
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join("".join(c if has_glyph(c) else escaped(c) for c in line) for line in lines)


def text_width(text: str, size: float) -> float:
    """Return the width of one line in points."""
    font = FontProperties(size=size)  # of the family of the current style
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def wrapped(text: str, width: float, size: float) -> str:
    """Break lines at spaces, and words that are too long anywhere, to a width in points."""
    return "\n".join(line for part in text.split("\n") for line in _lines(part, width, size))


def fit_texts(figure: Figure, heading: str) -> None:
    """Wrap titles and labels to their panels, and make the figure higher by the lines added."""
    has_heading = current_style().has_heading
    heading_text = figure.suptitle(heading) if has_heading else Text(0, 0, "")
    for text in _texts(figure):
        if text.get_text():
            text.set_text(drawable(text.get_text()))
    width, height = 72 * figure.get_size_inches()
    added = _fit(heading_text, _HEADING * width)
    if any(axes.get_label() == "<colorbar>" for axes in figure.axes):
        width -= points(_COLORBAR)
    share = _PANEL if current_style().width is None else _NARROW_PANEL
    title_lines: defaultdict[int, float] = defaultdict(float)
    for axes in figure.axes:
        row, rows, columns = _place(axes)
        lines = _fit(axes.title, share * width / columns)
        title_lines[row] = max(title_lines[row], lines)
        _fit(axes.xaxis.label, share * width / columns)
        _fit(axes.yaxis.label, _PANEL * height / rows)
    figure.set_figheight((height + added + sum(title_lines.values())) / 72)


def _texts(artist: Artist) -> Iterator[Text]:
    """Yield all texts except those at ticks, which would be made for it before they are needed."""
    for child in artist.get_children():
        if isinstance(child, Axis):
            yield child.label
        elif isinstance(child, Text):
            yield child
        else:
            yield from _texts(child)


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
    for word in _pieces(text, width, size):
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size) > width:
            yield line
            longer = word
        line = longer
    yield line


def _pieces(text: str, width: float, size: float) -> Iterator[str]:
    for word in text.split(" "):
        while text_width(word, size) > width:
            count = max(1, int(len(word) * width / text_width(word, size)))
            yield word[:count]
            word = word[count:]
        yield word

"""Width, fonts and sizes of figures: those of the report, or those that a paper needs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from typing_extensions import override

from dgray.errors import FigureError

FAMILY = "DejaVu Sans"  # part of matplotlib: the same picture on every machine
_SIZE = 9.0  # text of the report, in points
_NOTEBOOK_DPI = 120
_PAPER_SIZE = 8.0
_INCHES = {"in": 1.0, "": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # TeX's points
_LENGTH = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*")
_SMALLEST, _LARGEST = 1.0, 40.0  # inches


@dataclass(frozen=True)
class Style:
    """Style of a figure.

    Attributes:
        width: width in inches; None: as wide as its panels need.
        family: font family; glyphs that it lacks are those of DejaVu Sans.
        size: size of labels in points; other text is in proportion.
        has_heading: whether the figure has its title; in a paper the caption states it.
    """

    width: float | None = None
    family: str = FAMILY
    size: float = _SIZE
    has_heading: bool = True

    @property
    def parameters(self) -> Any:  # Any: matplotlib types its keys one by one
        """Values of ``matplotlib.rcParams``."""
        scale = self.size / _SIZE
        thin = 1.0 if self.width is None else 0.75
        return _PARAMETERS | {
            "font.family": list(dict.fromkeys([self.family, FAMILY])),
            "font.size": self.size,
            "figure.titlesize": 11 * scale,
            "axes.titlesize": 10 * scale,
            "axes.labelsize": self.size,
            "xtick.labelsize": self.size,
            "ytick.labelsize": self.size,
            "legend.fontsize": 8.5 * scale,
            "savefig.dpi": 150 if self.width is None else 300,
            "lines.linewidth": 1.7 * thin,
            "lines.markersize": 4.5 * thin,
        }


_PARAMETERS: Any = {
    "text.parse_math": False,  # dollar signs are text
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.titley": 1.0,  # else its place is searched for in every draw
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text that can be searched and edited
    "pdf.fonttype": 42,  # TrueType, as publishers require
    "ps.fonttype": 42,
}
REPORT = Style()
_STYLE: ContextVar[Style] = ContextVar("style", default=REPORT)


def current_style() -> Style:
    """Return the style of the figure that is drawn now."""
    return _STYLE.get()


@contextmanager
def styled(style: Style = REPORT) -> Iterator[None]:
    """Draw and save figures in a style inside the block."""
    token = _STYLE.set(style)
    try:
        with matplotlib.rc_context(style.parameters):
            yield
    finally:
        _STYLE.reset(token)


class StyledFigure(Figure):
    """Figure that is saved with the fonts that it was drawn with."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._style = current_style()

    @override
    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure; see ``matplotlib.figure.Figure.savefig``."""
        with styled(self._style):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it."""
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=_NOTEBOOK_DPI)
        return content.getvalue()


def points(size: float) -> float:
    """Return a text size for the current style, given that for the report."""
    return size * current_style().size / _SIZE


def style_of(
    width: str | float | None = None, font: str | None = None, size: float | None = None
) -> Style:
    """Return the style of a figure for a paper.

    Args:
        width: inches, or a length such as ``3.25in``, ``8.25cm``, ``82mm`` or ``234pt``; None: as
            in the report, with a heading.
        font: family, or path of a TrueType file; default DejaVu Sans.
        size: size of labels in points; default 8 with a width, else 9.

    Raises:
        FigureError: a value is out of range, or there is no such font.
    """
    inches = None if width is None else _inches(width)
    if size is None:
        size = _SIZE if inches is None else _PAPER_SIZE
    if not isinstance(size, Real) or not 4 <= size <= 24:
        raise FigureError(f"the font size must be 4 to 24 points, but is {size}")
    family = FAMILY if font is None else _family(font)
    return Style(inches, family, float(size), has_heading=inches is None)


def _inches(width: str | float) -> float:
    match = _LENGTH.fullmatch(str(width).lower())
    if match is None or match[2] not in _INCHES:
        raise FigureError(
            f"the width must be a length such as 3.25in, 8.25cm, 82mm or 234pt, but is {width!r}"
        )
    inches = float(match[1]) * _INCHES[match[2]]
    if not _SMALLEST <= inches <= _LARGEST:
        raise FigureError(
            f"the width must be {_SMALLEST:g} to {_LARGEST:g} inches, but {width} is {inches:g}"
        )
    return inches


def _family(font: str) -> str:
    if font.lower().endswith((".ttf", ".ttc", ".otf")):
        path = Path(font).expanduser()
        if not path.is_file():
            raise FigureError(f"{font}: there is no such font file; give a TrueType file (.ttf)")
        _refuse_outlines(path)
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError) as error:
            raise FigureError(f"{font}: not a font that can be read ({error})") from error
        return FontProperties(fname=path).get_name()
    families = {entry.name.lower(): entry for entry in fontManager.ttflist}
    entry = families.get(font.lower())
    if entry is None:
        near = get_close_matches(font.lower(), families, n=3)
        names = ", ".join(families[name].name for name in near) or FAMILY
        raise FigureError(
            f"font {font!r} is not installed; similar ones are {names}. Give the path of a .ttf "
            "file to use another"
        )
    _refuse_outlines(Path(entry.fname))
    return entry.name


def _refuse_outlines(path: Path) -> None:
    """Refuse fonts with PostScript outlines, which a PDF cannot hold as TrueType."""
    with path.open("rb") as file:
        is_postscript = file.read(4) == b"OTTO"
    if is_postscript:
        raise FigureError(
            f"{path}: the font has PostScript outlines, but figures need a TrueType font; give a "
            ".ttf file"
        )


def has_glyph(character: str) -> bool:
    """Return whether a font of the current style can draw a character."""
    return any(_has_glyph(family, character) for family in (current_style().family, FAMILY))


@cache
def _has_glyph(family: str, character: str) -> bool:
    return get_font(findfont(family)).get_char_index(ord(character)) != 0

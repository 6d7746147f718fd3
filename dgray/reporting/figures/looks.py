"""Colours, markers and line styles of all figures; no two series of a report look alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb, to_hex, to_rgb

from dgray.catalogue import OBJECTIVES
from dgray.reporting.presentation import BASE, objective, objective_rank

Color = tuple[float, float, float]

GAIN, HARM = "#00695C", "#A8124A"
CHANGE = LinearSegmentedColormap.from_list("change", [GAIN, "#F7F5F2", HARM])
HELD_OUT = "#222222"  # values on held-out data in the figures of searches
OTHER = "#777777"  # points that are stopped, failed, or violate a constraint
FLOOR = "#AAAAAA"  # the floor of an estimate
RULE = "#BBBBBB"  # reference lines

# Lines. A constant weight, the calibrated weight; values on training data; the base; an exact
# control; the floor of an estimate.
CONSTANT, CALIBRATED, TRAINING = "-", "--", ":"
BASE_LINE, EXACT_LINE = (0, (5, 3)), (0, (1, 1.5))
CALIBRATED_MARKER, TRAINING_MARKER = "D", "."

# For series besides the first of an objective (Paul Tol's muted scheme).
_COLOURS = ("#332288", "#44AA99", "#882255", "#999933", "#117733", "#CC6677", "#88CCEE", "#DDCC77")
_MARKERS = ("s", "^", "v", "P", "X", "p", "h", "*", "o")


@dataclass(frozen=True)
class Look:
    """Colour and marker of a series."""

    colour: str
    marker: str


def looks(series: Sequence[tuple[str, str]]) -> dict[str, Look]:
    """Return a look for each series, different from all others.

    Args:
        series: objective and name of each series. The first series of an objective has its colour
            of the catalogue, unless another objective has that one. The order of objectives does
            not matter, so that a series looks the same in every figure.
    """
    series = sorted(series, key=lambda one: (objective_rank(one[0]), one[0]))
    firsts: dict[str, Look] = {}
    for name, label in series:
        look = Look(objective(name).colour, objective(name).marker)
        if look.colour not in {other.colour for other in firsts.values()} and label not in firsts:
            firsts[label] = look
    taken = {BASE.colour, *(objective(name).colour for name in OBJECTIVES.names)}
    taken |= {look.colour for look in firsts.values()}
    others = (
        Look(colour, marker)
        for colour, marker in zip(_colours(), itertools.cycle(_MARKERS), strict=False)
        if colour not in taken
    )
    return {
        label: firsts.get(label) or next(others) for label in dict.fromkeys(n for _, n in series)
    }


def _colours() -> Iterator[str]:
    """Different colours without end: the scheme, then hues a golden angle apart."""
    yield from _COLOURS
    yield from (_hex(0.618034 * i % 1) for i in itertools.count())


def _hex(hue: float) -> str:
    red, green, blue = (float(part) for part in hsv_to_rgb((hue, 0.8, 0.6)))
    return to_hex((red, green, blue))


def shade(colour: str, position: int, count: int) -> Color:
    """Return a shade: light for the first of ``count`` values, full colour for the last."""
    light = 0.0 if count < 2 else 0.6 * (1 - position / (count - 1))
    red, green, blue = (part + (1 - part) * light for part in to_rgb(colour))
    return red, green, blue

"""Figures of a report with their captions, and their files.

A figure is left out if the study lacks its numbers. The same rows give the same files, byte for
byte.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dgray.reporting.figures.cloud import clouds, densities
from dgray.reporting.figures.control import control_metrics
from dgray.reporting.figures.epochs import headline, metrics_against_epochs
from dgray.reporting.figures.images import nearest_training
from dgray.reporting.figures.loss import losses
from dgray.reporting.figures.map import kl_map, path_kl_map
from dgray.reporting.figures.noise import (
    loss_gap_by_noise,
    path_change_by_noise,
    score_error_by_noise,
)
from dgray.reporting.figures.search import history, pareto_front
from dgray.reporting.figures.search_fields import importances, parallel_coordinates
from dgray.reporting.figures.theme import STYLE, Drawing
from dgray.reporting.figures.weight import metrics_against_weight
from dgray.reporting.searches import SearchPoints
from dgray.reporting.table import StudyTable

FORMATS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class FigureKind:
    """Figure of a report.

    Attributes:
        name: stem of its file names.
        title: heading on the page.
        draw: function of a ``StudyTable``, or of the searches of a study, that returns the
            figure with its caption, or None if numbers are missing.
    """

    name: str
    title: str
    draw: Callable[[Any], Drawing | None]


@dataclass(frozen=True)
class RenderedFigure:
    """Caption of a figure, and the content of its files by format."""

    kind: FigureKind
    caption: str
    formats: dict[str, bytes]


@dataclass(frozen=True)
class FailedFigure:
    """Figure that could not be drawn, which is left out of the report."""

    kind: FigureKind
    reason: str

    def __str__(self) -> str:
        """Return a line for the page and the terminal."""
        return f"the figure {self.kind.name} ({self.kind.title}) could not be drawn: {self.reason}"


KINDS = (
    FigureKind("finding", "Overfitting against epochs", headline),
    FigureKind("overfitting_map_path_kl", "Overfitting map: path KL", path_kl_map),
    FigureKind("overfitting_map_kl", "Overfitting map: KL of the probability-flow ODE", kl_map),
    FigureKind("kl_against_epochs", "All metrics against epochs", metrics_against_epochs),
    FigureKind(
        "kl_against_weight", "All metrics against the guidance weight", metrics_against_weight
    ),
    FigureKind(
        "score_error", "Score error and calibrated weight by noise level", score_error_by_noise
    ),
    FigureKind("path_change", "Change of the path KL by noise level", path_change_by_noise),
    FigureKind("losses", "Training and held-out loss", losses),
    FigureKind("loss_gap", "Generalisation gap by noise level", loss_gap_by_noise),
    FigureKind("control_lenses", "Control with parameters", control_metrics),
    FigureKind("clouds", "Samples", clouds),
    FigureKind("nearest_training", "Nearest training images", nearest_training),
    FigureKind("densities", "Densities", densities),
)
SEARCH_KINDS = (
    FigureKind("search_history", "History of the searches", history),
    FigureKind("search_pareto", "Pareto front", pareto_front),
    FigureKind("search_importances", "Importance of the searched fields", importances),
    FigureKind("search_parallel", "Parallel coordinates", parallel_coordinates),
)


def render_figures(table: StudyTable, note: str = "") -> Iterator[RenderedFigure | FailedFigure]:
    """Yield every figure for which the study has numbers; ``note``: added to each caption."""
    for kind in KINDS:
        yield from _attempt(kind, table, note)


def render_search_figures(
    searches: tuple[SearchPoints, ...],
) -> Iterator[RenderedFigure | FailedFigure]:
    """Yield the figures of searches; none for a grid."""
    for kind in SEARCH_KINDS if searches else ():
        yield from _attempt(kind, searches)


def _attempt(
    kind: FigureKind, data: Any, note: str = ""
) -> Iterator[RenderedFigure | FailedFigure]:
    try:
        yield from _render(kind, data, note)
    except Exception as error:  # the rest of the report does not depend on one figure
        yield FailedFigure(kind, f"{type(error).__name__}: {error}")


def _render(kind: FigureKind, data: Any, note: str) -> Iterator[RenderedFigure]:
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": kind.name}):
        drawn = kind.draw(data)
        if drawn is not None:
            figure = drawn.figure
            figure.draw_without_rendering()  # computes the layout once, not per format
            figure.set_layout_engine(None)
            caption = f"{drawn.caption} {note}".strip()
            formats = {name: _saved(figure, name) for name in FORMATS}
            yield RenderedFigure(kind, caption, formats)


def _saved(figure: Figure, name: str) -> bytes:
    # Dates and versions would make equal figures differ.
    metadata = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=name, metadata=metadata[name])
    return buffer.getvalue()

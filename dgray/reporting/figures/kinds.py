"""Figures of a report with their captions, and their files.

A figure is left out if the study lacks its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from dgray.reporting.figures.cloud import clouds, densities
from dgray.reporting.figures.control import control_metrics
from dgray.reporting.figures.cost import metrics_against_cost
from dgray.reporting.figures.epochs import headline, metrics_against_epochs
from dgray.reporting.figures.files import Origin, pictures
from dgray.reporting.figures.gap import gap_map
from dgray.reporting.figures.images import nearest_training
from dgray.reporting.figures.loss import losses
from dgray.reporting.figures.map import kl_map, path_kl_map
from dgray.reporting.figures.noise import (
    loss_gap_by_noise,
    path_change_by_noise,
    score_error_by_noise,
)
from dgray.reporting.figures.ratio import ratio_estimates_against_exact
from dgray.reporting.figures.sample_size import errors_against_samples
from dgray.reporting.figures.search import history, pareto_front
from dgray.reporting.figures.search_fields import importances, parallel_coordinates
from dgray.reporting.figures.style import styled
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.figures.weight import metrics_against_weight
from dgray.reporting.searches import SearchPoints
from dgray.reporting.table import StudyTable


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
    FigureKind("gain_against_cost", "Gain against the cost of training", metrics_against_cost),
    FigureKind("ratio_estimates", "Estimates of the KL", ratio_estimates_against_exact),
    FigureKind(
        "error_against_samples",
        "Error against the number of real samples",
        errors_against_samples,
    ),
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
    FigureKind("loss_gap_map", "Generalisation gap by noise level and epoch", gap_map),
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


def render_figures(
    table: StudyTable, origin: Origin, note: str = ""
) -> Iterator[RenderedFigure | FailedFigure]:
    """Yield every figure for which the study has numbers; ``note``: added to each caption."""
    for kind in KINDS:
        yield from _attempt(kind, table, origin, note)


def render_search_figures(
    searches: tuple[SearchPoints, ...], origin: Origin
) -> Iterator[RenderedFigure | FailedFigure]:
    """Yield the figures of searches; none for a grid."""
    for kind in SEARCH_KINDS if searches else ():
        yield from _attempt(kind, searches, origin)


def _attempt(
    kind: FigureKind, data: Any, origin: Origin, note: str = ""
) -> Iterator[RenderedFigure | FailedFigure]:
    try:
        drawn = _rendered(kind, data, origin, note)
    except Exception as error:  # the rest of the report does not depend on one figure
        yield FailedFigure(kind, f"{type(error).__name__}: {error}")
    else:
        if drawn is not None:
            yield drawn


def _rendered(kind: FigureKind, data: Any, origin: Origin, note: str) -> RenderedFigure | None:
    with styled():
        drawing = kind.draw(data)
        if drawing is None:
            return None
        drawing = replace(drawing, caption=f"{drawing.caption} {note}".strip())
        return RenderedFigure(kind, drawing.caption, pictures(drawing, kind.name, origin))

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
from dgray.reporting.figures.search_fields import (
    MIN_BETTER,
    MIN_POINTS,
    importances,
    parallel_coordinates,
)
from dgray.reporting.figures.theme import STYLE
from dgray.reporting.figures.weight import metrics_against_weight
from dgray.reporting.searches import SearchPoints
from dgray.reporting.table import StudyTable

FORMATS = ("svg", "pdf", "png")
_BAND = "Bands and bars: ± 1 standard error, over held-out points and replicates."


@dataclass(frozen=True)
class FigureKind:
    """Figure of a report.

    Attributes:
        name: stem of its file names.
        title: heading on the page.
        caption: explanation below the figure.
        draw: function of a ``StudyTable``, or of the searches of a study, that returns the
            figure, or None if numbers are missing.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], Figure | None]


@dataclass(frozen=True)
class RenderedFigure:
    """Content of the files of a figure, by format."""

    kind: FigureKind
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
    FigureKind(
        "finding",
        "Overfitting against epochs",
        "Discriminators of the largest capacity, trained on the fewest real samples. Grey dashes: "
        "the unguided base. Guidance is harmful where a KL divergence or a distance is above the "
        "base, or precision or recall below it. Coloured dashes: the same discriminators with the "
        "guidance weight calibrated on validation data. " + _BAND,
        headline,
    ),
    FigureKind(
        "overfitting_map_path_kl",
        "Overfitting map: path KL",
        "Each square is one discriminator at one checkpoint. Its number is the change of the path "
        "KL against the base in nats, ± one standard error, paired over the same points. Green: "
        "guidance lowers the KL divergence. Crimson: guidance raises it.",
        path_kl_map,
    ),
    FigureKind(
        "overfitting_map_kl",
        "Overfitting map: KL of the probability-flow ODE",
        "As above, for the distribution that the deterministic sampler generates. It can be more "
        "sensitive to wrong gradients, because no added noise averages them out.",
        kl_map,
    ),
    FigureKind(
        "kl_against_epochs",
        "All metrics against epochs",
        "Darker lines: larger discriminators. The KL of the SDE sampler is a nearest-neighbour "
        "estimate; its floor is the same estimate for fresh data in place of samples. " + _BAND,
        metrics_against_epochs,
    ),
    FigureKind(
        "kl_against_weight",
        "All metrics against the guidance weight",
        "Every curve starts at the base (weight 0). Weight 1 is the exact correction if the "
        "discriminator is perfect. Diamonds at the right: the weight calibrated per noise level. "
        + _BAND,
        metrics_against_weight,
    ),
    FigureKind(
        "score_error",
        "Score error and calibrated weight by noise level",
        "Left: error of the guided score against the exact score; its integral over log sigma is "
        "the path KL without the prior term. Right: the calibrated guidance weight; 0 is "
        "the unguided base, 1 the full correction. An oracle far below the visible range is "
        "left out. Bands: ± 1 standard error (for the weight: between replicates).",
        score_error_by_noise,
    ),
    FigureKind(
        "path_change",
        "Change of the path KL by noise level",
        "Change of the held-out denoising error against the base in nats, by noise-level bin; the "
        "sum over the bins is the change of the path KL. Above zero, guidance is harmful at that "
        "noise level. " + _BAND,
        path_change_by_noise,
    ),
    FigureKind(
        "losses",
        "Training and held-out loss",
        "Dotted: loss on the training data. Solid: on held-out data. Both are evaluated at the "
        "checkpoints in the same way: unweighted, noise levels uniform in log sigma, without "
        "dropout. Where they diverge, the discriminator memorises its training data. Losses of "
        "different objectives are not comparable. " + _BAND,
        losses,
    ),
    FigureKind(
        "loss_gap",
        "Generalisation gap by noise level",
        "Held-out minus training loss. Above zero the discriminator memorises its training data "
        "at that noise level.",
        loss_gap_by_noise,
    ),
    FigureKind(
        "control_lenses",
        "Oscillating control",
        "This control adds a sin(k x) to the exact log-ratio: its cross-entropy stays near the "
        "optimum for every frequency k, but its gradient does not. " + _BAND,
        control_metrics,
    ),
    FigureKind(
        "clouds",
        "Samples",
        "Data, base, and models guided by the largest discriminator trained on the fewest real "
        "samples, at the last checkpoint. All panels show the same range.",
        clouds,
    ),
    FigureKind(
        "nearest_training",
        "Nearest training images",
        "Guided images (upper row of each pair) and below each the training image nearest to it "
        "in pixel space. Copies indicate a discriminator that memorised its training data.",
        nearest_training,
    ),
    FigureKind(
        "densities",
        "Densities",
        "Kernel density estimates of the same samples, all on the colour scale of the data. They "
        "show where a model is too wide, too narrow, or concentrated on filaments.",
        densities,
    ),
)


SEARCH_KINDS = (
    FigureKind(
        "search_history",
        "History of the searches",
        "Dots: values of the points on the validation split, the only split that a search uses. "
        "Steps: the best value so far; dashed: the same points on held-out data, ± 1 standard "
        "error. Where the two differ, the validation value is biased by the selection. Crosses: "
        "points stopped early, at their last checkpoint.",
        history,
    ),
    FigureKind(
        "search_pareto",
        "Pareto front",
        "Points on the validation split, hollow if they violate a constraint. For a point of the "
        "front, no point that meets the constraints is better in one metric and at least as good "
        "in all others. Dark: the points of the front on held-out data, ± 1 standard error.",
        pareto_front,
    ),
    FigureKind(
        "search_importances",
        "Importance of the searched fields",
        "Influence of a field on whether a point is among the best tenth (at least "
        f"{MIN_BETTER} points), by Optuna's PED-ANOVA; the values of a search add up to 1. Only "
        f"fields that every point has, and searches with at least {MIN_POINTS} finished points. "
        "With so few points the values are rough.",
        importances,
    ),
    FigureKind(
        "search_parallel",
        "Parallel coordinates",
        "One line per finished point, each field over its whole range (logarithmic if its "
        "domain is); at the right the rank on validation. Dotted: stopped early. A line is "
        "interrupted at a field that the point does not use.",
        parallel_coordinates,
    ),
)


def render_figures(table: StudyTable) -> Iterator[RenderedFigure | FailedFigure]:
    """Yield every figure for which the study has numbers."""
    for kind in KINDS:
        yield from _attempt(kind, table)


def render_search_figures(
    searches: tuple[SearchPoints, ...],
) -> Iterator[RenderedFigure | FailedFigure]:
    """Yield the figures of searches; none for a grid."""
    for kind in SEARCH_KINDS if searches else ():
        yield from _attempt(kind, searches)


def _attempt(kind: FigureKind, data: Any) -> Iterator[RenderedFigure | FailedFigure]:
    try:
        yield from _render(kind, data)
    except Exception as error:  # the rest of the report does not depend on one figure
        yield FailedFigure(kind, f"{type(error).__name__}: {error}")


def _render(kind: FigureKind, data: Any) -> Iterator[RenderedFigure]:
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": kind.name}):
        figure = kind.draw(data)
        if figure is not None:
            figure.draw_without_rendering()  # computes the layout once, not per format
            figure.set_layout_engine(None)
            yield RenderedFigure(kind, {name: _saved(figure, name) for name in FORMATS})


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

"""The figures of a report: which there are, how to read each, and how they are saved.

A figure whose numbers a study does not have is left out. Files are the same byte for byte when
made again from the same rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dgray.reporting.figures.cloud import clouds, densities
from dgray.reporting.figures.control import control_lenses
from dgray.reporting.figures.epochs import headline, kl_against_epochs
from dgray.reporting.figures.images import nearest_training, path_change_by_noise
from dgray.reporting.figures.loss import losses
from dgray.reporting.figures.map import kl_map, path_kl_map
from dgray.reporting.figures.noise import loss_gap_by_noise, score_error_by_noise
from dgray.reporting.figures.search import history, pareto_front
from dgray.reporting.figures.search_fields import (
    MIN_BETTER,
    MIN_POINTS,
    importances,
    parallel_coordinates,
)
from dgray.reporting.figures.theme import STYLE
from dgray.reporting.figures.weight import kl_against_weight
from dgray.reporting.search_table import CellPoints
from dgray.reporting.table import StudyTable

_BAND = "Bands and bars are ± 1 standard error (held-out points and replicates together)."


@dataclass(frozen=True)
class FigureKind:
    """A figure and how to read it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Any], Figure | None]  # of a StudyTable, or of searches


@dataclass(frozen=True)
class Picture:
    """A drawn figure in its three formats."""

    kind: FigureKind
    formats: dict[str, bytes]  # svg, pdf, png


KINDS = (
    FigureKind(
        "finding",
        "Overfitting in one picture",
        "Against epochs, at the largest capacity and the fewest real samples. Grey dashes: the "
        "unguided base. Of a KL or a distance, above them guidance does harm, below them good; of "
        "precision and recall it is the other way round. Colour dashes: the same discriminators "
        "with the weight calibrated on validation data. " + _BAND,
        headline,
    ),
    FigureKind(
        "overfitting_map_path_kl",
        "The overfitting map: path KL",
        "A cell is one discriminator at one checkpoint; its number is the change of the path KL "
        "against the base, in nats, ± one standard error, paired on the same points. Green: "
        "guidance lowers the KL. Crimson: it raises it.",
        path_kl_map,
    ),
    FigureKind(
        "overfitting_map_kl",
        "The overfitting map: KL of the probability-flow ODE",
        "The same for the model that the deterministic sampler generates. Wrong gradients "
        "can cost more here, since no noise washes them out.",
        kl_map,
    ),
    FigureKind(
        "kl_against_epochs",
        "Against epochs, through every lens",
        "Darker lines are larger discriminators. A KL of the SDE sampler, where there is one, is "
        "a nearest-neighbour estimate: its floor is what fresh data would score. " + _BAND,
        kl_against_epochs,
    ),
    FigureKind(
        "kl_against_weight",
        "Against guidance weight",
        "Every curve starts at the base (weight 0); weight 1 is the exact correction by a perfect "
        "discriminator. Diamonds at the right: the weight calibrated per noise level. " + _BAND,
        kl_against_weight,
    ),
    FigureKind(
        "score_error",
        "Score error and calibrated weight by noise level",
        "Left: error of the guided score against the exact one; its integral over log sigma is "
        "the path KL without the prior term. Right: the weight that calibration chose; near 0 "
        "it trusts the base, near 1 the discriminator. An oracle far below the frame is left out. "
        "Bands: ± 1 standard error (of the weight: between replicates).",
        score_error_by_noise,
    ),
    FigureKind(
        "path_change",
        "Change of the path KL by noise level",
        "The change of the held-out denoising error against the base, in nats, bin by bin: their "
        "sum is the change of the path KL. Above zero guidance does harm at that noise level. "
        + _BAND,
        path_change_by_noise,
    ),
    FigureKind(
        "losses",
        "Training against held-out loss",
        "Dotted: loss on the training points. Solid: on held-out points. Both at the checkpoints, "
        "unweighted, noise levels uniform in log sigma, without dropout. Where they part, the "
        "discriminator memorises. Losses of different objectives are not comparable. " + _BAND,
        losses,
    ),
    FigureKind(
        "loss_gap",
        "The gap by noise level",
        "Held-out minus training loss. Above zero: memorised at that noise level.",
        loss_gap_by_noise,
    ),
    FigureKind(
        "control_lenses",
        "The control over its axes",
        "The oscillating control adds a sin(k x) to the exact log-ratio: its cross-entropy stays "
        "near the optimum whatever k, its gradient does not. " + _BAND,
        control_lenses,
    ),
    FigureKind(
        "clouds",
        "Samples",
        "Data, base, and models guided by the largest discriminator trained on the fewest real "
        "samples, at the last checkpoint; all in the same frame.",
        clouds,
    ),
    FigureKind(
        "nearest_training",
        "Nearest training images",
        "Guided images in the upper row of each pair, and under each the training image nearest "
        "to it in pixels. Copies betray a discriminator that memorised.",
        nearest_training,
    ),
    FigureKind(
        "densities",
        "Densities",
        "Kernel density estimates of the same samples, all on the colour scale of the data: "
        "where a model is too wide, too narrow, or condensed on filaments.",
        densities,
    ),
)


SEARCH_KINDS = (
    FigureKind(
        "search_history",
        "History of the searches",
        "Dots: points on the validation split, which alone the search sees. Steps: the best so "
        "far there, and dashed the same points on held-out data, ± 1 standard error: where they "
        "part, choosing flatters. Crosses: stopped early, at their last checkpoint.",
        history,
    ),
    FigureKind(
        "search_pareto",
        "Pareto front",
        "Points on the validation split, hollow where they break a constraint. No point that "
        "meets the constraints is better in one metric than one of the front and as good in all "
        "others. Dark: the points of the front on held-out data, ± 1 standard error.",
        pareto_front,
    ),
    FigureKind(
        "search_importances",
        "Importance of the searched fields",
        "How much a field decides whether a point is among the better ones, a tenth of them but "
        f"at least {MIN_BETTER} (PED-ANOVA of Optuna), as shares. Of fields that every point "
        f"has, and of searches with at least {MIN_POINTS} finished points: from so few they are "
        "a hint.",
        importances,
    ),
    FigureKind(
        "search_parallel",
        "Parallel coordinates",
        "A line a finished point, each field over its whole range (logarithmic where the study "
        "says so); at the right the points in their order on validation. Dotted: stopped early. "
        "A field without a value in a point, being of no matter to it, breaks its line.",
        parallel_coordinates,
    ),
)


def pictures(table: StudyTable) -> Iterator[Picture]:
    """Every figure that the study has numbers for."""
    for kind in KINDS:
        yield from _picture(kind, table)


def search_pictures(searches: tuple[CellPoints, ...]) -> Iterator[Picture]:
    """The figures of searches; none of a grid."""
    for kind in SEARCH_KINDS if searches else ():
        yield from _picture(kind, searches)


def _picture(kind: FigureKind, data: Any) -> Iterator[Picture]:
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": kind.name}):
        figure = kind.draw(data)
        if figure is not None:
            figure.draw_without_rendering()  # the layout is found once, not per format
            figure.set_layout_engine(None)
            yield Picture(kind, {name: _saved(figure, name) for name in ("svg", "pdf", "png")})


def _saved(figure: Figure, name: str) -> bytes:
    # Dates and versions in files would make two equal figures differ.
    metadata = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=name, metadata=metadata[name])
    return buffer.getvalue()

"""Every figure shows one trial a line, states what is held fixed, and gives each its own look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dgray.catalogue import CORRECTIONS, OBJECTIVES
from dgray.reporting.figures.density import scatter_image
from dgray.reporting.figures.kinds import KINDS
from dgray.reporting.figures.looks import looks
from dgray.reporting.figures.search import pareto_front
from dgray.reporting.figures.style import styled
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.figures.view import axis_names, value_text
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from tests.reporting.synthetic_axes import EPOCHS, SHARED, random_table
from tests.reporting.synthetic_search import KL_AND_TIME, point, search_of

SEEDS = (0, 2)
OF_LINES = {
    "finding", "kl_against_epochs", "kl_against_weight", "score_error", "losses", "loss_gap",
}  # fmt: skip


@cache
def studied(seed: int, count: int | None = None) -> StudyTable:
    return random_table(seed, count=count)


@cache
def drawn(name: str, seed: int, count: int | None = None) -> Drawing | None:
    (kind,) = (kind for kind in KINDS if kind.name == name)
    with styled():
        return kind.draw(studied(seed, count))


def trials_by_number(table: StudyTable) -> dict[float, str]:
    """The trial that each number of the table, and of its loss gaps, belongs to."""
    owners: dict[float, str] = {}
    for _, model in table.models.iterrows():
        names = [n for n in table.columns if n not in ("sigma_edges", "calibrated_sigmas")]
        values = [model[name] for name in names if not np.all(model[name] is None)]
        if model["loss_held_out_bins"] is not None:
            values.append(model["loss_held_out_bins"] - model["loss_train_bins"])
        for value in values:
            for part in np.atleast_1d(np.asarray(value, float)):
                owners[float(part)] = model["trial"]
    return owners


def lines_of(axes: Axes) -> Iterator[Line2D]:
    """Lines of data: neither levels across the panel nor caps of error bars."""
    for line in axes.get_lines():
        is_level = line.get_transform() != axes.transData
        if not is_level and len(np.atleast_1d(line.get_xdata())) and line.get_marker() != "|":
            yield line


def owners_of(line: Line2D, owners: dict[float, str], bases: set[str]) -> set[str]:
    heights = np.asarray(line.get_ydata(), float)
    trials = {owners[float(height)] for height in heights if np.isfinite(height)}
    return trials if trials <= bases else trials - bases


def look_of(line: Line2D) -> tuple[Any, ...]:
    return to_hex(line.get_color()), line.get_linestyle(), line.get_marker()


def joined(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def legend_of(figure: Figure) -> str:
    return joined(*(text.get_text() for legend in figure.legends for text in legend.get_texts()))


def missing_axes(table: StudyTable, trial: str, context: str) -> list[str]:
    """Axes of a trial whose value the text around a line does not state."""
    names = axis_names(table.axes)
    model = table.models[table.models["trial"] == trial].iloc[0]
    padded = f" {context.replace(',', ' ').replace('(', ' ').replace(')', ' ')} "
    padded = joined(padded) + " "
    return [
        axis
        for axis in table.axes
        if axis != "fit.objective"
        and model[axis] == model[axis]
        and model[axis] is not None
        and f"{names[axis]} {value_text(model[axis])} " not in padded
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(OF_LINES))
def test_a_line_is_one_trial_and_its_axes_are_stated(name: str, seed: int) -> None:
    table, drawing = studied(seed), drawn(name, seed)
    assert drawing is not None
    owners = trials_by_number(table)
    bases = set(table.models.loc[table.models["objective"] == "base", "trial"])
    heading, count = drawing.figure.get_suptitle(), 0
    for axes in drawing.figure.axes:
        seen: dict[tuple[Any, ...], str] = {}
        for line in lines_of(axes):
            trials = owners_of(line, owners, bases)
            assert len(trials) == 1, (name, axes.get_title(), trials)
            (trial,) = trials
            look = look_of(line)
            assert seen.setdefault(look, trial) == trial, (name, axes.get_title(), look)
            if trial in bases:
                continue
            count += 1
            label = str(line.get_label())
            label = legend_of(drawing.figure) if label.startswith("_") else label
            assert missing_axes(table, trial, joined(heading, axes.get_title(), label)) == []
    assert count


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(OF_LINES - {"losses"}))
def test_no_two_labels_share_a_look(name: str, seed: int) -> None:
    drawing = drawn(name, seed)
    assert drawing is not None
    labels = defaultdict(set)
    for axes in drawing.figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labels[look_of(handle)].add(label)
    assert [names for names in labels.values() if len(names) > 1] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["overfitting_map_path_kl", "overfitting_map_kl"])
def test_a_square_is_one_trial_at_one_checkpoint(name: str, seed: int) -> None:
    table, drawing = studied(seed), drawn(name, seed)
    assert drawing is not None
    column = "path_kl_change" if name.endswith("path_kl") else "kl_change"
    models = trained(table.models)
    models = models[models["guidance_weight"] == 1]
    panels = [axes for axes in drawing.figure.axes if axes.axison and axes.get_title() != "harm"]
    for axes in panels:
        sizes = [f"{axes.get_ylabel()} {label.get_text()}" for label in axes.get_yticklabels()]
        numbers = [t for t in axes.texts if not t.get_text().startswith("±")]
        places = [text.get_position() for text in numbers]
        assert len(places) == len(set(places))
        for text in numbers:
            x, y = text.get_position()
            context = joined(
                drawing.figure.get_suptitle(), axes.get_title(), sizes[round(y - 0.1)]
            )
            (epoch,) = (e for e in EPOCHS if str(e) == axes.get_xticklabels()[round(x)].get_text())
            value = float(text.get_text().replace("\N{MINUS SIGN}", "-"))
            shown = models[(models["epoch"] == epoch) & ((models[column] - value).abs() < 6e-3)]
            assert any(missing_axes(table, trial, context) == [] for trial in shown["trial"])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_panel_of_samples_is_one_trial(seed: int) -> None:
    table, drawing = studied(seed), drawn("clouds", seed)
    assert drawing is not None
    owners = {
        tuple(point): cloud.trial for cloud in table.clouds.itertuples() for point in cloud.points
    }
    panels = {axes.get_title(): axes for axes in drawing.figure.axes}
    shown = 0
    for name, group in drawing.data.groupby("samples"):
        axes = panels[str(name).replace(", w", "\nw").replace(", calibrated", "\ncalibrated")]
        points = group[["x1", "x2"]].to_numpy()
        (trial,) = {owners[tuple(point)] for point in points.tolist()}
        (left, right, bottom, top), pixels = (
            axes.images[0].get_extent(),
            axes.images[0].get_array(),
        )
        corners = np.array([left, bottom]), np.array([right, top])
        assert pixels is not None
        drawn_points = scatter_image(points, *corners, len(pixels), "black")[..., 3]
        assert np.array_equal(pixels[..., 3], drawn_points)
        if not axes.get_title().startswith("base"):
            shown += 1
            context = joined(drawing.figure.get_suptitle(), axes.get_title())
            assert missing_axes(table, trial, context) == []
    assert shown


def test_points_are_drawn_at_their_places_and_add_up() -> None:
    low, high = np.array([0.0, 0.0]), np.array([10.0, 20.0])
    points = np.array([[5.05, 15.1], [5.05, 15.1], [2.05, 4.1], [99.0, 4.1]])
    opacity = scatter_image(points, low, high, 100, "#FF0000")[..., 3]
    assert opacity[75, 50] == pytest.approx(1 - 0.55**2)
    assert opacity[20, 20] == pytest.approx(0.45)
    assert (opacity > 0).sum() == 2 * 21  # two disks, the point outside has none


def test_what_is_held_fixed_is_in_the_caption() -> None:
    drawing = drawn("finding", 3, len(SHARED))
    assert drawing is not None
    held = drawing.caption.partition("Held fixed: ")[2]
    shared = ("depth", "discriminator.width", "base.width", "num_real", "weight_decay", "batching")
    assert [axis for axis in shared if f"{axis} " not in held] == []


def test_a_figure_fits_a_screen_however_many_axes_there_are() -> None:
    drawings = [drawn(kind.name, 3, len(SHARED)) for kind in KINDS]
    sizes = [d.figure.get_size_inches() for d in drawings if d is not None]
    # On the page a figure is 1000 pixels wide, or as wide as twice its size.
    heights = [min(1000, 144 * width) * height / width for width, height in sizes]
    assert max(heights) < 1400
    assert sum(heights) < 10_000


def test_looks_of_many_series_differ() -> None:
    series = [
        (name, f"{name} {i}") for name in ("cross_entropy", "kl", "x", "y") for i in range(40)
    ]
    chosen = looks(series)
    assert len(set(chosen.values())) == len(series)
    assert len({look.colour for look in chosen.values()}) == len(series)
    assert chosen["kl 0"].colour == "#0072B2"


def test_a_series_looks_the_same_in_every_figure_whatever_their_order() -> None:
    selections = [
        f"{name}-{of}" for name in ("rejection", "metropolis") for of in OBJECTIVES.names
    ]
    series = [(name, name) for name in (*selections, *CORRECTIONS.names, *OBJECTIVES.names, "x")]
    chosen = looks(series)
    assert looks(series[::-1]) == chosen
    declared = [spec for spec in (*OBJECTIVES, *CORRECTIONS) if spec.colour]
    assert all(chosen[spec.name].colour == spec.colour for spec in declared)


def test_fronts_of_many_searches_of_one_objective_differ() -> None:
    searches = tuple(
        search_of(
            [point(n, 0.1 * n, 9.0 - n, metrics=KL_AND_TIME) for n in range(3)],
            label=f"cross_entropy, gradient_penalty {penalty}",
            metrics=KL_AND_TIME,
        )
        for penalty in range(12)
    )
    with styled():
        drawing = pareto_front(searches)
    assert drawing is not None
    (axes,) = drawing.figure.axes
    fronts = [line for line in axes.get_lines() if str(line.get_label()).startswith("front")]
    assert len(fronts) == 8
    assert len({look_of(line) for line in fronts}) == 8
    assert "first 8 of 12 searches" in drawing.figure.get_suptitle()

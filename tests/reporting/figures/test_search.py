"""Figures of searches: their content, and when they are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from dgray.reporting.figures.files import Origin
from dgray.reporting.figures.kinds import SEARCH_KINDS, render_search_figures
from dgray.reporting.figures.search import history, pareto_front
from dgray.reporting.figures.search_fields import (
    MIN_POINTS,
    importances,
    importances_of,
    parallel_coordinates,
)
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.searches import Range, SearchPoints
from tests.reporting.synthetic_search import KL_AND_TIME, RANGES, RATE, WIDTH, point, search_of

DECAY = "fit.ema_decay"
CHOICE = {DECAY: Range("choice", choices=(0, 0.9, "null"))}


def searched(count: int, *, label: str = "kl", **kinds: Any) -> SearchPoints:
    """Points over the whole ranges, whose value depends on the learning rate only."""
    rng = np.random.default_rng(5)
    points = []
    for number in range(count):
        rate = float(10 ** rng.uniform(-5, -1))
        fields = {RATE: rate, WIDTH: int(2 ** rng.uniform(2, 8)), DECAY: rng.choice([0, 0.9])}
        value = (np.log10(rate) + 3) ** 2
        values = [value, fields[WIDTH] / 100][: len(kinds.get("metrics", [0]))]
        points.append(point(number, *values, **kinds, **fields))
    return search_of(points, label=label, ranges={**RANGES, **CHOICE}, **kinds)


def panels(drawing: Drawing | None) -> list[Axes]:
    assert drawing is not None
    return [axes for axes in drawing.figure.axes if axes.axison]


def labelled(axes: Axes, label: str) -> np.ndarray:
    """Positions of the markers or the line of this label, shape (points, 2)."""
    handles, labels = axes.get_legend_handles_labels()
    handle: Any = handles[labels.index(label)]
    if isinstance(handle, PathCollection):
        return np.asarray(handle.get_offsets(), float)
    return np.column_stack(handle.get_data())


def texts(axes: Axes) -> Sequence[str]:
    return [text.get_text() for text in axes.texts]


def test_history_marks_violating_stopped_and_failed_points_on_both_splits() -> None:
    search = search_of(
        [
            point(0, 0.9),
            point(1, 0.2, excess=3.0),
            point(2, 0.7, state="PRUNED"),
            point(3, state="FAIL"),
            point(4, 0.5, held_out=0.8),
        ]
    )
    (panel,) = panels(history((search,)))
    assert labelled(panel, "point on validation").tolist() == [[0, 0.9], [4, 0.5]]
    assert labelled(panel, "point that violates a constraint").tolist() == [[1, 0.2]]
    assert labelled(panel, "stopped early").tolist() == [[2, 0.7]]
    assert labelled(panel, "failed")[:, 0].tolist() == [3]
    assert labelled(panel, "best so far, on validation")[:, 1].tolist() == [
        0.9,
        0.9,
        0.9,
        0.9,
        0.5,
    ]
    held_out = labelled(panel, "best so far, on held-out data")[:, 1]
    assert held_out == pytest.approx([0.92, 0.92, 0.92, 0.92, 0.8])


def test_histories_of_one_metric_share_a_scale_in_rows_of_three() -> None:
    searches = tuple(
        search_of([point(0, 0.1 * i), point(1, 0.2)], label=f"kl, num_real {i}")
        for i in range(1, 6)
    )
    shown = panels(history(searches))
    assert len(shown) == 5
    assert len({panel.get_ylim() for panel in shown}) == 1
    assert shown[0].get_title() == "KL objective, num_real 1"
    places = {round(panel.get_position().x0, 3) for panel in shown}
    assert len(places) == 3


def test_front_is_a_step_line_with_its_values_on_held_out_data() -> None:
    values = [(0.1, 9.0), (0.2, 3.0), (0.3, 4.0), (0.5, 1.0), (0.05, 0.5)]
    points = [point(i, *v, metrics=KL_AND_TIME) for i, v in enumerate(values)]
    points[4]["excess"] = 1.0
    (panel,) = panels(pareto_front((search_of(points, metrics=KL_AND_TIME),)))
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("fit_seconds", "path_kl_change")
    front = labelled(panel, "front of KL objective")
    assert front.tolist() == [[1.0, 0.5], [3.0, 0.2], [9.0, 0.1]]
    assert "violates a constraint" in panel.get_legend_handles_labels()[1]
    bars = next(
        c for c in panel.containers if c.get_label() == "front of KL objective on held-out data"
    )
    assert bars.lines[0].get_ydata() == pytest.approx([0.52, 0.22, 0.12])


def test_importances_find_the_field_that_decides() -> None:
    values = importances_of(searched(40), "path_kl_change")
    assert set(values) == {RATE, WIDTH, DECAY}
    assert max(values, key=lambda name: values[name]) == RATE
    assert values[RATE] > 0.6
    assert sum(values.values()) == pytest.approx(1)


def test_importances_need_enough_points_and_cover_every_metric() -> None:
    both = searched(40, metrics=KL_AND_TIME)
    shown = panels(importances((both, searched(MIN_POINTS - 1))))
    assert [panel.get_title() for panel in shown] == [
        "KL objective: path_kl_change",
        "KL objective: fit_seconds",
    ]
    assert max(importances_of(both, "fit_seconds").items(), key=lambda x: x[1])[0] == WIDTH
    assert importances((searched(MIN_POINTS - 1),)) is None


def test_parallel_axes_span_the_ranges_on_the_scale_of_the_study() -> None:
    points = [
        point(0, 0.5, **{RATE: 1e-3, WIDTH: 32, DECAY: 0}),
        point(1, 0.1, **{RATE: 1e-5, WIDTH: 4, DECAY: "null"}),
        point(2, 0.4, state="PRUNED", **{RATE: 1e-1, WIDTH: 256, DECAY: 0.9}),
    ]
    (panel,) = panels(parallel_coordinates((search_of(points, ranges={**RANGES, **CHOICE}),)))
    stopped, worse, better = (np.asarray(line.get_ydata(), float) for line in panel.lines)
    assert stopped == pytest.approx([1, 1, 0.5])
    assert worse == pytest.approx([0.5, 0.5, 0, 0])
    assert better == pytest.approx([0, 0, 1, 1])
    assert panel.lines[0].get_linestyle() == ":"
    assert texts(panel) == ["4", "256", "1e-05", "0.1", "0", "0.9", "null", "0.5", "0.1"]


def test_missing_field_interrupts_the_line() -> None:
    points = [point(0, 0.5, **{RATE: None}), point(1, 0.1)]
    (panel,) = panels(parallel_coordinates((search_of(points),)))
    assert np.isnan(np.asarray(panel.lines[0].get_ydata(), float)).tolist() == [0, 1, 0]


def test_figures_of_searches_are_reproducible_in_all_formats() -> None:
    searches = (searched(20, metrics=KL_AND_TIME),)
    drawn = list(render_search_figures(searches, Origin("search")))
    assert [picture.kind for picture in drawn] == list(SEARCH_KINDS)
    assert [p.formats for p in drawn] == [
        p.formats for p in render_search_figures(searches, Origin("search"))
    ]


def test_no_figure_without_finished_points() -> None:
    searches = (search_of([point(0, state="FAIL"), point(1, state="RUNNING")]),)
    assert list(render_search_figures(searches, Origin("search"))) == []
    assert list(render_search_figures((), Origin("search"))) == []

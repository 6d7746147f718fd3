"""Map of the generalisation gap: its trials, values, onsets of overfitting and sampler calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from scipy.stats import ttest_1samp

from dgray.record.row import Row
from dgray.reporting.figures.gap import gap_map, onsets
from dgray.reporting.figures.style import styled
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.table import StudyTable
from tests.reporting.synthetic import Member, row, table_of

EDGES = [0.1, 0.5, 2.0, 10.0]
EPOCHS = (5, 20, 80)
CALLS = {"ode": [2.0, 4.0, 1.0], "sde": [1.0, 2.0, 1.0]}


def _table(members: Sequence[Member], bins: int = 3, **columns: Any) -> StudyTable:
    rng = np.random.default_rng(0)
    rows: list[Row] = [row(Member("base", {}))]
    for member in members:
        for epoch in member.epochs:
            for replicate in range(member.replicates):
                losses = {
                    "loss_train_bins": rng.uniform(size=bins).tolist(),
                    "loss_held_out_bins": rng.uniform(size=bins).tolist(),
                }
                for sampler, calls in CALLS.items():
                    values = losses | {"sigma_edges": EDGES[: bins + 1], "replicate": replicate}
                    values |= {"sampler": sampler, "sample_calls_bins": calls[:bins]}
                    rows.append(row(member, epoch, 1.0, **(values | columns)))
    return table_of(rows)


def _member(objective: str, replicates: int = 4, **axes: Any) -> Member:
    names = {"width": "discriminator.width", "num_real": "data.num_real"}
    fields = {names[name]: value for name, value in axes.items()}
    return Member(objective, {"fit.objective": objective} | fields, EPOCHS, replicates)


def _draw(table: StudyTable) -> Drawing:
    with styled():
        drawing = gap_map(table)
    assert drawing is not None
    return drawing


def _meshes(drawing: Drawing) -> dict[str, np.ndarray]:
    """Values of each panel by its title."""
    values = {}
    for axes in drawing.figure.axes:
        meshes = [c for c in axes.collections if isinstance(c, QuadMesh)]
        if axes.get_label() != "<colorbar>" and meshes:
            strips = [axes, *(child for child in axes.child_axes if isinstance(child, Axes))]
            (title,) = (a.get_title() for a in strips if a.get_title())
            values[title] = np.asarray(meshes[0].get_array()).reshape(len(EPOCHS), -1)
    return values


def _gap(table: StudyTable, member: Member, epoch: int) -> np.ndarray:
    rows = table.rows[(table.rows["trial"] == member.id) & (table.rows["epoch"] == epoch)]
    rows = rows[rows["sampler"] == "ode"]
    gaps = np.stack(rows["loss_held_out_bins"]) - np.stack(rows["loss_train_bins"])
    assert len(gaps) == member.replicates
    mean: np.ndarray = gaps.mean(0)
    return mean


def test_a_panel_per_series_and_data_size_shows_the_gaps_of_the_largest_width() -> None:
    members = [
        _member(objective, width=width, num_real=size)
        for objective in ("cross_entropy", "kl")
        for width in (4, 16)
        for size in (50, 100)
    ]
    table = _table(members)
    drawing = _draw(table)
    names = {"cross_entropy": "cross-entropy", "kl": "KL objective"}
    shown = {
        f"{names[m.objective]}\nnum_real {m.axes['data.num_real']}": m
        for m in members
        if m.axes["discriminator.width"] == 16
    }
    meshes = _meshes(drawing)
    assert set(meshes) == set(shown)
    for title, member in shown.items():
        expected = [_gap(table, member, epoch) for epoch in EPOCHS]
        np.testing.assert_allclose(meshes[title], expected)
    assert "Held fixed: width 16." in drawing.caption
    data = drawing.data
    assert len(data) == len(shown) * len(EPOCHS) * 3
    some = data[(data["objective"] == "kl") & (data["num_real"] == 50) & (data["epoch"] == 20)]
    member = next(m for m in shown.values() if m.label == "kl, width 16, num_real 50")
    assert some["gap"].tolist() == pytest.approx(_gap(table, member, 20).tolist())
    assert some["calls of ode, 32 steps"].tolist() == CALLS["ode"]


def test_the_calls_of_each_sampler_are_above_each_panel() -> None:
    drawing = _draw(_table([_member("kl")]))
    (strip,) = (child for axes in drawing.figure.axes for child in axes.child_axes)
    drawn = {patch.get_label(): patch.get_data() for patch in strip.patches}  # type: ignore[attr-defined]
    assert set(drawn) == {"calls of ode, 32 steps", "calls of sde, 32 steps"}
    for name, calls in CALLS.items():
        steps = drawn[f"calls of {name}, 32 steps"]
        assert steps.values.tolist() == calls
        assert steps.edges.tolist() == EDGES


def test_a_run_without_the_calls_has_the_map_alone() -> None:
    drawing = _draw(_table([_member("kl")], sample_calls_bins=None))
    assert not any(axes.child_axes for axes in drawing.figure.axes)
    assert "denoiser calls" not in drawing.caption


@pytest.mark.parametrize(("epochs", "bins"), [((5,), 3), (EPOCHS, 1)])
def test_one_checkpoint_or_one_bin_has_no_map(epochs: tuple[int, ...], bins: int) -> None:
    assert gap_map(_table([replace(_member("kl"), epochs=epochs)], bins)) is None


def test_a_study_without_trained_trials_has_no_map() -> None:
    assert gap_map(_table([_member("oracle")])) is None


def test_only_trials_with_several_checkpoints_are_shown() -> None:
    single = replace(_member("cross_entropy"), epochs=(5,))
    assert set(_draw(_table([_member("kl"), single])).data["objective"]) == {"kl"}


def test_replicates_that_lack_a_bin_do_not_break_it() -> None:
    drawing = _draw(_table([_member("kl")], loss_held_out_bins=[1.0, float("nan"), 2.0]))
    assert np.isnan(drawing.data["gap"]).any()


def test_the_onset_of_overfitting_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    curve = np.array([[0.5, 0.0, 3.0, 1.0], [0.2, 0.5, 2.0, 1.0], [1.5, 1.0, 1.0, 1.0]])
    losses = curve[:, None] + 0.05 * rng.normal(size=(3, 6, 4))
    place, lowest, highest = onsets(losses)
    for bin in range(4):
        of_bin = losses[:, :, bin]
        best = int(of_bin.mean(1).argmin())
        p = ttest_1samp(of_bin[-1] - of_bin[best], 0, alternative="greater").pvalue
        expected = best if best < 2 and 2 * p < 0.05 else np.nan
        assert place[bin] == pytest.approx(expected, nan_ok=True)
        own = of_bin.argmin(0)
        assert (lowest[bin], highest[bin]) == (own.min(), own.max())
    assert place[:3] == pytest.approx([1, 0, np.nan], nan_ok=True)


def test_flat_losses_rarely_have_an_onset() -> None:
    rng = np.random.default_rng(2)
    place, _, _ = onsets(rng.normal(size=(5, 8, 4000)))
    assert np.isfinite(place).mean() < 0.06

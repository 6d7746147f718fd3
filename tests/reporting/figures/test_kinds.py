"""Figures of a report: formats, reproducibility, content, and when they are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.text import Text

from dgray.reporting.build import read_table
from dgray.reporting.figures.epochs import headline, metrics_against_epochs
from dgray.reporting.figures.files import Origin
from dgray.reporting.figures.kinds import KINDS, RenderedFigure, render_figures
from dgray.reporting.figures.loss import losses
from dgray.reporting.figures.style import styled
from dgray.reporting.table import StudyTable
from tests.reporting.synthetic import Member, row, table_of

OVERFIT = {kind.name for kind in KINDS} - {
    "control_lenses",
    "error_against_samples",
    "gain_against_cost",
    "nearest_training",
    "path_change",
    "ratio_estimates",
}
ORIGIN = Origin("synthetic", ("abc123",))
MAGIC = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def drawn(small_run: Path) -> list[RenderedFigure]:
    return list(render_figures(read_table(small_run), ORIGIN))


@pytest.fixture(scope="module")
def of_control(counterexample_run: Path) -> list[RenderedFigure]:
    return list(render_figures(read_table(counterexample_run), ORIGIN))


def test_study_of_overfitting_has_all_its_figures_in_all_formats(
    drawn: list[RenderedFigure],
) -> None:
    assert {picture.kind.name for picture in drawn} == OVERFIT
    for picture in drawn:
        assert {
            name: content[: len(MAGIC[name])] for name, content in picture.formats.items()
        } == (MAGIC)


def test_every_data_size_has_its_panels(overfit_run: Path) -> None:
    table = read_table(overfit_run)
    panels = {"overfitting_map_path_kl": 4, "overfitting_map_kl": 4, "kl_against_epochs": 6}
    for kind in KINDS:
        if kind.name in panels:
            drawing = kind.draw(table)
            assert drawing is not None
            figure = drawing.figure
            panels_only = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
            titles = [axes.get_title() for axes in panels_only if axes.get_title()]
            of_size = [
                [title for title in titles if title.endswith(f"num_real {size}")]
                for size in (100, 1000)
            ]
            assert len(titles) == panels[kind.name]
            assert [len(group) for group in of_size] == [panels[kind.name] // 2] * 2


def test_study_of_a_control_has_its_own_figure(of_control: list[RenderedFigure]) -> None:
    assert [picture.kind.name for picture in of_control] == ["control_lenses", "clouds"]


def test_figures_are_reproducible_byte_for_byte(
    counterexample_run: Path, of_control: list[RenderedFigure]
) -> None:
    again = render_figures(read_table(counterexample_run), ORIGIN)
    assert [p.formats for p in of_control] == [p.formats for p in again]


def test_figures_without_numbers_are_left_out() -> None:
    trained = Member("kl", {"fit.objective": "kl", "discriminator.width": 8})
    table = table_of([row(Member("base", {})), row(trained, 5, 1.0), row(trained, 20, 1.0)])
    assert [kind.name for kind in KINDS if kind.draw(table) is not None] == []


def test_values_that_are_not_finite_do_not_break_a_figure() -> None:
    trained = Member("cross_entropy", {"fit.objective": "cross_entropy"})
    rows = [row(Member("base", {}), kl=0.5, kl_se=0.1)]
    for epoch, value in ((5, 1.0), (20, float("inf"))):
        change = {"kl_change": value, "kl_change_se": 0.1}
        rows.append(row(trained, epoch, 1.0, kl=value, kl_se=0.1, **change))
    drawn = {picture.kind.name for picture in render_figures(table_of(rows), ORIGIN)}
    assert drawn == {"finding", "overfitting_map_kl", "kl_against_epochs"}


def test_headline_shows_the_largest_width_and_the_fewest_samples(overfit_run: Path) -> None:
    table = read_table(overfit_run)
    with styled():
        drawing = headline(table)
    assert drawing is not None
    figure = drawing.figure
    cells = table.models
    hardest = cells[
        (cells["discriminator.width"] == 128)
        & (cells["data.num_real"] == 100)
        & (cells["objective"] == "cross_entropy")
        & (cells["guidance_weight"] == 1)
    ]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    drawn = list(lines["cross-entropy, w = 1"].get_ydata())
    assert drawn == pytest.approx(hardest["path_kl"].tolist())
    assert lines["base (unguided)"].get_ydata()[0] == pytest.approx(0.656)
    assert len(figure.axes) == 3


def test_losses_compare_what_was_evaluated_in_the_same_way(overfit_run: Path) -> None:
    table = read_table(overfit_run)
    with styled():
        drawing = losses(table)
    assert drawing is not None
    figure = drawing.figure
    ours = table.models[
        (table.models["objective"] == "cross_entropy")
        & (table.models["data.num_real"] == 100)
        & (table.models["discriminator.width"] == 128)
        & (table.models["guidance_weight"] == 1)
    ].sort_values("epoch")
    drawn = {
        (line.get_linestyle(), tuple(line.get_xdata()), tuple(line.get_ydata()))
        for axes in figure.axes
        for line in axes.get_lines()
    }
    epochs = tuple(ours["epoch"])
    assert (":", epochs, tuple(ours["loss_train"])) in drawn
    assert ("-", epochs, tuple(ours["loss_held_out"])) in drawn
    assert {len(epochs) for _, epochs, _ in drawn} == {4}  # the fine curve is not among them


def test_interval_and_stage_settings_do_not_mix_with_plain_ones() -> None:
    trained = Member("kl", {"fit.objective": "kl"})
    rows = [row(Member("base", {}), kl=0.5)]
    for epoch in (5, 20):
        rows.append(row(trained, epoch, 1.0, kl=0.4, kl_se=0.1))
        rows.append(row(trained, epoch, 1.0, kl=9.0, interval_low=0.1, interval_high=1.0))
        rows.append(row(trained, epoch, 1.0, kl=9.0, guided_stage="predictor"))
    drawing = headline(table_of(rows))
    assert drawing is not None
    figure = drawing.figure
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["KL objective, w = 1"].get_ydata()) == [0.4, 0.4]


def test_many_metrics_are_broken_into_rows() -> None:
    """Six panels side by side would be illegible on a page."""
    trained = Member("kl", {"fit.objective": "kl"})
    scores = ("path_kl_change", "kl_change", "fd", "precision", "recall")
    values = dict.fromkeys(scores, 0.5) | {f"{name}_se": 0.1 for name in scores}
    rows = [row(Member("base", {}), **values)]
    rows += [row(trained, epoch, 1.0, **values) for epoch in (5, 20)]
    for draw in (headline, metrics_against_epochs):
        drawing = draw(table_of(rows))
        assert drawing is not None
        figure = drawing.figure
        places = [axes.get_subplotspec().get_geometry()[:2] for axes in figure.axes]  # type: ignore[union-attr]
        assert places == [(2, 3)] * len(scores)


def _image_table() -> StudyTable:
    """Return a study of two objectives on images, which has the narrowest figures."""
    rows = [row(Member("base", {}), fd=93.0, fd_se=11.0, path_kl_change=0.0)]
    bins = {"sigma_edges": [0.02, 0.2, 2.0, 20.0], "path_kl_change_bins": [0.1, 0.3, 0.01]}
    for objective in ("cross_entropy", "kl"):
        for width in (8, 16):
            axes = {"fit.objective": objective, "discriminator.width": width}
            for weight in (1.0, None):
                change = {
                    "path_kl_change": 0.7,
                    "path_kl_change_se": 0.2,
                    "fd": 80.0,
                    "fd_se": 9.0,
                }
                rows += [
                    row(Member(objective, axes), epoch, weight, **change, **bins)
                    for epoch in (15, 60)
                ]
    return table_of(rows)


@pytest.mark.parametrize("of", ["points", "images"])
def test_no_text_of_a_figure_is_cut_off(of: str, small_run: Path) -> None:
    table = read_table(small_run) if of == "points" else _image_table()
    seen = set()
    for kind in KINDS:
        with styled():
            drawing = kind.draw(table)
            if drawing is None:
                continue
            figure = drawing.figure
            seen.add(kind.name)
            figure.draw_without_rendering()
            ticks = {
                label
                for axes in figure.axes
                for axis in (axes.xaxis, axes.yaxis)
                for label in axis.get_ticklabels(which="both")
            }
            frame = figure.bbox.padded(1.0)
            for text in figure.findobj(Text):
                if text in ticks or not text.get_visible() or not text.get_text().strip():
                    continue
                box = text.get_window_extent()
                inside = (frame.x0 <= box.x0, box.x1 <= frame.x1, frame.y0 <= box.y0)
                assert all((*inside, box.y1 <= frame.y1)), (kind.name, text.get_text())
    assert {"kl_against_epochs", "path_change" if of == "images" else "losses"} <= seen

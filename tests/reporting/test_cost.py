"""Test the cost of reports: each thing is computed once, and the page has a bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy import stats

from dgray.record.row import Row
from dgray.record.row_schema import to_table
from dgray.record.run_folder import RunFolder
from dgray.record.tables import Tables
from dgray.reporting.build import read_table, source_of
from dgray.reporting.comparisons import compare, false_discovery_rates, p_value
from dgray.reporting.estimate import Estimate
from dgray.reporting.explorer import extent, library
from dgray.reporting.explorer.data import explorer_data
from dgray.reporting.figures.density import kernel_density
from dgray.reporting.figures.epochs import headline
from dgray.reporting.figures.files import Origin, pictures
from dgray.reporting.figures.style import styled
from dgray.reporting.page import report_page
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import find
from tests.reporting.synthetic import Member, row


@pytest.fixture(scope="module")
def table(small_run: Path) -> StudyTable:
    return read_table(small_run)


def test_layout_of_a_figure_is_computed_once_for_all_formats(
    table: StudyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    execute, draw = ConstrainedLayoutEngine.execute, Figure.draw

    def counted_execute(engine: ConstrainedLayoutEngine, figure: Figure) -> None:
        calls.append("layout")
        execute(engine, figure)

    def counted_draw(figure: Figure, renderer: object) -> None:
        calls.append("draw")
        draw(figure, renderer)  # type: ignore[arg-type]

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counted_execute)
    monkeypatch.setattr(Figure, "draw", counted_draw)
    with styled():
        drawing = headline(table)
        assert drawing is not None
        files = pictures(drawing, "finding", Origin("run"))
    assert set(files) == {"svg", "pdf", "png"}
    assert calls == ["layout", "draw", "draw", "draw"]


def test_density_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    angles = random.integers(0, 8, 2000) * np.pi / 4
    centres = 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
    points = centres + 0.3 * random.standard_normal((2000, 2))
    points[:, 0] += 0.4 * points[:, 1]
    low, high, cells = points.min(0) - 0.5, points.max(0) + 0.5, 180
    density = kernel_density(points, low, high, cells)
    middles = low + (high - low) * (np.arange(cells)[:, None] + 0.5) / cells
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*middles.T)])
    exact = stats.gaussian_kde(points.T, lambda kde: kde.scotts_factor() / 3)(grid)
    assert np.abs(density.ravel() - exact).max() < 0.02 * exact.max()


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.ones((50, 2))])
def test_density_of_too_few_points_is_zero(points: np.ndarray) -> None:
    assert not kernel_density(points, np.zeros(2) - 1, np.ones(2), 10).any()


def test_p_values_and_their_adjustment_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 300):
        p = random.random(count).round(2)
        assert (false_discovery_rates(p) == stats.false_discovery_control(p)).all()
    for degrees in (1.0, 9.5, np.inf):
        assert p_value(Estimate(-0.3, 0.1), degrees) == 2 * stats.t.sf(0.3 / 0.1, degrees)


def test_page_states_how_many_trials_it_leaves_out(
    table: StudyTable, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparisons = compare(table)
    whole = explorer_data(table, table, comparisons)
    assert whole["leftOut"] == 0
    monkeypatch.setattr(extent, "MAX_NUMBERS", 1500)
    monkeypatch.setattr(library, "_bundle", str)
    part = explorer_data(table, table, comparisons)
    num_trials = table.rows["trial"].nunique()
    assert 0 < part["leftOut"] == num_trials - len(part["trials"])
    assert len(part["rows"]["trial"]) < len(whole["rows"]["trial"])
    of = [part["trials"][i]["objective"] for i in part["headline"]["trials"]]
    assert len(of) == len(whole["headline"]["trials"])
    assert any(part["objectives"][trial["objective"]]["isBase"] for trial in part["trials"])
    source = source_of(RunFolder(small_run))
    page = report_page(table, find(table), [], source, explorer=part)
    assert f"{part['leftOut']} of {num_trials} trials are not on this page" in page


def test_plotting_library_is_bundled_once_per_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles: list[str] = []

    def bundle() -> str:
        bundles.append("script")
        return "script"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "_bundle", bundle)
    uncached = library.plotting_library.__wrapped__
    assert [uncached(), uncached()] == ["script", "script"]
    assert len(bundles) == 1
    (path,) = (tmp_path / "dgray").iterdir()
    path.write_text(path.read_text("utf-8") + "damage", "utf-8")
    assert uncached() == "script"
    assert len(bundles) == 2


def test_samples_are_arrays(small_run: Path) -> None:
    clouds = RunFolder(small_run).clouds()
    assert len(clouds)
    assert all(isinstance(points, np.ndarray) for points in clouds["points"])
    assert {points.ndim for points in clouds["points"]} == {2}


def test_rows_of_a_run_before_there_were_corrections_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    members = [Member("base", {}), Member("kl", {}, weights=(1.0,))]
    tables = Tables(run.files, "rows", Row)
    for member in members:
        older = to_table([row(member, weight=member.weights[0])], Row).drop_columns("correction")
        monkeypatch.setattr("dgray.record.tables.to_table", lambda *_, table=older: table)
        tables.write(f"{member.id}-000000", [row(member)])
    table = read_table(tmp_path)
    assert not run.left_out
    pairs = zip(table.rows["objective"], table.rows["correction"], strict=True)
    assert set(pairs) == {("base", "base"), ("kl", "guidance")}


def test_a_report_imports_no_large_library_that_it_does_not_need() -> None:
    code = (
        "import sys, dgray.reporting.build\n"
        "print(*sorted({'scipy.stats', 'vl_convert', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

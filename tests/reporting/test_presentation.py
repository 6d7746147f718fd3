"""Objectives, samplers and metrics of packages that are not installed where a report is built."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dgray.catalogue import OBJECTIVES, SAMPLERS, ColumnSpec
from dgray.record.row import Row
from dgray.record.row_schema import to_table
from dgray.reporting.comparisons import compare
from dgray.reporting.explorer.data import explorer_data
from dgray.reporting.figures.epochs import metrics_against_epochs
from dgray.reporting.presentation import BASE, objective, objective_rank, sampler_preference
from dgray.reporting.selection import shown_columns, trained
from dgray.reporting.table import StudyTable, study_table, write_parquet
from dgray.reporting.tensorboard.rows import checkpoints
from dgray.reporting.tensorboard.scalars import metric_scalars
from dgray.reporting.text.finding import find
from tests.reporting.synthetic import Member, row

ADDED = (
    ColumnSpec(name="mmd", doc="kernel distance to the data", label="MMD", source="samples"),
    ColumnSpec(name="mmd_se", doc="its standard error", source="samples"),
)


@pytest.fixture(scope="module")
def table() -> StudyTable:
    """Rows of an unknown objective and sampler, with a column of an unknown metric."""
    scores = {"sampler": "leapfrog", "mmd": 0.25, "mmd_se": 0.05}
    change = {"path_kl_change": 0.9, "path_kl_change_se": 0.1}
    rows = [row(Member("base", {}), path_kl=0.5, mmd=0.5, mmd_se=0.05)]
    rows += [
        row(Member("hinge_loss", {}), e, 1.0, path_kl=1.4, **scores, **change) for e in (1, 2)
    ]
    return study_table(to_table(rows, Row, ADDED), pd.DataFrame(), pd.DataFrame())


def test_unknown_metric_is_in_table_summary_and_figures(table: StudyTable, tmp_path: Path) -> None:
    assert table.summary_columns["mmd"] == "MMD"
    assert table.models["mmd_se"].notna().all()
    shown = explorer_data(table, table, compare(table))["metrics"]
    mmd = next(metric for metric in shown if metric["name"] == "mmd")
    assert (mmd["title"], mmd["doc"]) == ("MMD", "kernel distance to the data")
    assert mmd["value"] == [0.5, 0.25, 0.25]
    assert mmd["error"] == [0.05, 0.05, 0.05]
    write_parquet(table, tmp_path / "report.parquet")
    stored = pq.read_schema(tmp_path / "report.parquet").field("mmd")
    assert stored.metadata[b"doc"] == b"kernel distance to the data"
    assert shown_columns(table, table.models) == ["path_kl", "mmd"]
    drawing = metrics_against_epochs(table)
    assert drawing is not None
    assert [axes.get_title() for axes in drawing.figure.axes] == ["path KL", "MMD"]


def test_unknown_metric_is_a_scalar_of_its_sampler(table: StudyTable) -> None:
    (rows,) = (rows for _, epoch, rows in checkpoints(table.rows) if epoch == 2)
    tags = {scalar.tag: scalar.value for scalar in metric_scalars(rows)}
    assert tags["mmd/w=1 (leapfrog)"] == 0.25
    assert not any(tag.startswith("mmd_se") for tag in tags)


def test_unknown_objective_is_a_trained_one_with_statements_and_a_colour(
    table: StudyTable,
) -> None:
    assert set(trained(table.models)["objective"]) == {"hinge_loss"}
    finding = find(table)
    assert any(s.text.startswith("Hinge loss changes the path KL") for s in finding.statements)
    assert {"best hinge loss", "worst hinge loss"} <= {line.name for line in finding.summary}
    assert objective("hinge_loss").colour.startswith("#")
    assert objective("hinge_loss").colour not in {spec.colour for spec in OBJECTIVES}


def test_controls_precede_objectives_and_deterministic_samplers_stochastic_ones() -> None:
    names = [BASE.name, *OBJECTIVES.names, "hinge_loss"]
    ranked = sorted(names, key=objective_rank)
    assert ranked[0] == BASE.name
    assert ranked[-1] == "hinge_loss"
    assert [objective(name).is_trained for name in ranked] == sorted(
        objective(name).is_trained for name in names
    )
    preferred = sorted([*SAMPLERS.names, "leapfrog"], key=sampler_preference)
    assert not SAMPLERS[preferred[0]].is_stochastic


def test_a_control_in_another_correction_has_the_options_of_the_control() -> None:
    """Statements therefore count all settings of the control."""
    assert objective("rejection-oscillating").options == objective("oscillating").options
    assert not objective("rejection-oscillating").is_trained
    assert objective("rejection-oracle").options == ()

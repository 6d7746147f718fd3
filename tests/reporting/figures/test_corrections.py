"""Figures of a study with a budget, in which every correction is trained for other epochs."""

from __future__ import annotations

import pytest

from dgray.errors import FigureError
from dgray.reporting.figures.map import path_kl_map
from dgray.reporting.figures.style import styled
from dgray.reporting.table import StudyTable
from dgray.reporting.where import select
from tests.reporting.synthetic import Member, row, table_of

EPOCHS = {
    "kl": (21, 84),
    "fine_tune": (16, 65),
    "sims": (11, 43),
    "neon": (33, 130),
    "rejection-kl": (24, 94),
}


@pytest.fixture(scope="module")
def table() -> StudyTable:
    rows = [row(Member("base", {}), correction="base", path_kl=0.2, path_kl_change=0.0)]
    for name, epochs in EPOCHS.items():
        correction = {"kl": "guidance"}.get(name, name.removesuffix("-kl"))
        scores = {"path_kl": 0.1, "path_kl_change": -0.1, "path_kl_change_se": 0.01}
        member = Member(name, {})
        rows += [row(member, epoch, 1.0, correction=correction, **scores) for epoch in epochs]
    return table_of(rows)


def test_a_map_has_the_checkpoints_of_every_correction(table: StudyTable) -> None:
    with styled():
        drawing = path_kl_map(table)
    assert drawing is not None
    panels = [
        axes for axes in drawing.figure.axes if axes.axison and axes.get_xlabel() == "epochs"
    ]
    shown = [tuple(int(t.get_text()) for t in axes.get_xticklabels()) for axes in panels]
    assert sorted(shown) == sorted(EPOCHS.values())
    assert len(drawing.data) == 10


@pytest.mark.parametrize("field", ["correction", "correction.kind"])
def test_rows_are_selected_by_their_correction(field: str, table: StudyTable) -> None:
    chosen = select(table, f"{field}=neon|rejection")
    assert set(chosen.rows["objective"]) == {"base", "neon", "rejection-kl"}
    with pytest.raises(FigureError, match="the values are guidance, fine_tune, sims, neon"):
        select(table, f"{field}=ddo")

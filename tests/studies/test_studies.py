"""Every shipped study is sound, and its file is named after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.reading.load import load_study
from dgray.plan.cells import cells_of, typical_trial
from dgray.plan.plan import counts_of, make_plan

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def test_there_are_studies() -> None:
    assert STUDIES


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_has_a_plan(path: Path) -> None:
    study = load_study(path)
    plan = make_plan(study)
    assert study.name == path.stem
    assert study.description.endswith("?")
    assert plan.trials[0].objective == "base"
    points = [typical_trial(study, cell) for cell in cells_of(study)]
    trials = [*plan.trials, *points]
    assert counts_of(trials).rows > len(trials)

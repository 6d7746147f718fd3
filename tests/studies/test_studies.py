"""Test that every shipped study is valid and has the name of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.reading.load import load_study
from dgray.plan.cells import cells_of, typical_trial
from dgray.plan.plan import counts_of, make_plan

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def test_studies_are_shipped() -> None:
    assert STUDIES


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_has_a_plan_and_states_a_question(path: Path) -> None:
    study = load_study(path)
    plan = make_plan(study)
    assert study.name == path.stem
    assert study.description.endswith("?")
    assert plan.trials[0].objective == "base"
    points = [typical_trial(study, cell) for cell in cells_of(study)]
    trials = [*plan.trials, *points]
    assert counts_of(trials).rows > len(trials)

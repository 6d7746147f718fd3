"""Test that every shipped study is valid and has the name of its file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.plan.cells import cells_of, typical_trial
from dgray.plan.cost import estimate
from dgray.plan.plan import counts_of, make_plan
from dgray.reporting.build import read_table
from dgray.reporting.text.finding import find
from dgray.reporting.text.samples import SAMPLES

FOLDER = Path(__file__).parents[2] / "studies"
STUDIES = sorted(FOLDER.glob("*.yaml"))


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


def test_objectives_are_compared_at_equal_compute_and_every_number_of_samples() -> None:
    """Each setting at each number of samples once, within 20 minutes on two cores."""
    study = load_study(FOLDER / "objectives.yaml")
    plan = make_plan(study)
    trained = [trial for trial in plan.trials if trial.is_trained]
    sizes = study.axes["data.num_real"]
    assert len(sizes) >= 5
    assert min(trial.replicates for trial in trained) >= 8
    # penalties (four) x weight decay (two) x early stopping (two); other objectives have none.
    settings = {"cross_entropy": 16, "kl": 4, "mixed": 4, "residual": 4}
    assert Counter(trial.objective for trial in trained) == {
        name: count * len(sizes) for name, count in settings.items()
    }
    assert study.configs[0].config.budget.train_flops
    for trial in trained:
        if trial.config.fit.patience:
            assert trial.config.fit.patience == pytest.approx(trial.epochs[-1] / 4, abs=1)
    assert estimate(plan, cpus=2).wall_seconds < 20 * 60


@pytest.mark.long
def test_a_reduced_form_of_objectives_runs_and_states_its_slopes(tmp_path: Path) -> None:
    small = [
        "data.num_real=[50, 100, 200]",
        "data.num_held_out=100",
        "replicates=3",
        "discriminator.width=4",
        "fit.objective=[cross_entropy, kl]",
        "fit.gradient_penalty=0",
        "fit.weight_decay=0",
        "fit.patience=0",
        "correction.kind=guidance",
        "data.num_validation=50",
        "budget.train_flops=5e6",
        "evaluate.num_samples=50",
    ]
    sets = [argument for text in small for argument in ("--set", text)]
    study, out = str(FOLDER / "objectives.yaml"), str(tmp_path / "run")
    assert main([study, *sets, "--engine", "local", "--out", out]) == 0
    assert (tmp_path / "run" / "figures" / "error_against_samples.svg").exists()
    statements = find(read_table(tmp_path / "run"), "samples").answer
    assert [statement.topic for statement in statements] == [SAMPLES, SAMPLES]
    assert all("KL objective" in statement.text for statement in statements)

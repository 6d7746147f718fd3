"""Domains in the study file: what they may be, and what is refused, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.load import load_study, lock_text
from dgray.config.problem import StudyError
from dgray.plan import make_plan
from dgray.search_points import cells_of
from tests.search.analytic import load


def test_a_search_for_every_combination_of_the_lists(tmp_path: Path) -> None:
    study = load(tmp_path, "fit.objective=[cross_entropy, kl, oracle]", "data.num_real=[50, 100]")
    labels = [cell.label for cell in cells_of(study)]
    assert labels == [
        f"{objective}, num_real {size}"
        for size in (50, 100)
        for objective in ("cross_entropy", "kl")
    ]
    assert len({cell.id for cell in cells_of(study)}) == 4
    assert [t.objective for t in make_plan(study).trials] == ["base", "oracle"]


def test_the_lock_loads_to_the_same_search(tmp_path: Path) -> None:
    gamma = "fit.gamma={uniform: [0, 1], when: {fit.objective: mixed}}"
    study = load(tmp_path, gamma, "fit.objective=[kl, mixed]")
    (tmp_path / "lock.yaml").write_text(lock_text(study))
    again = load_study(tmp_path / "lock.yaml")
    assert again.raw == study.raw
    assert [c.id for c in cells_of(again)] == [c.id for c in cells_of(study)]


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("fit.learning_rate={log_uniform: [0, 1]}", r"logarithmic domain must have low > 0"),
        ("fit.learning_rate={uniform: [2, 1]}", r"\[low, high\] with low <= high"),
        ("fit.learning_rate={uniform: [1]}", r"\[low, high\] with low <= high"),
        ("fit.learning_rate={uniform: [0.1, 1], log: true}", "unknown option 'log' of uniform"),
        ("fit.learning_rate={uniform: [0.1, 1], int: [1, 2]}", "a domain has one kind"),
        ("discriminator.width={int: [8.5, 9]}", "int must have integer ends"),
        ("discriminator.width={int: [0, 9]}", r"discriminator.width\[0\]: must be > 0"),
        ("fit.objective={choice: []}", "choice must be a list of values"),
        ("fit.objective={choice: [kl, klx]}", "must be one of"),
        ("evaluate.guidance_weight={choice: [1, [1, 2]]}", "a choice must be of single values"),
        ("evaluate.num_steps={int: [8, 16]}", "varies guidance_weight alone"),
        (
            "data.num_real={int: [10, 20]}",
            "a search varies fields of discriminator, fit, evaluate",
        ),
        ("search.method=grid", "a domain needs search.method 'optuna'"),
        ("search.num_trials=null", "num_trials or time_budget must be given"),
        ("search.metrics={klx: minimize}", "must be of: path_kl_change, kl"),
        ("search.metrics={kl: down}", "must be one of 'minimize', 'maximize'"),
        ("search.sampler={name: tpe, arguments: {popsize: 3}}", "arguments of tpe must be of"),
        ("search.sampler={name: cmaes, arguments: {popsize: x}}", "popsize must be int"),
        ("search.early_stopping={method: halving}", "must be one of 'asha'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, override: str, rule: str) -> None:
    with pytest.raises(StudyError, match=rule) as error:
        load(tmp_path, override)
    assert "--set " in str(error.value) or "s.yaml:6:17" in str(error.value)


def test_cmaes_and_stopping_need_one_metric(tmp_path: Path) -> None:
    two = "search.metrics={kl: minimize, fit_seconds: minimize}"
    with pytest.raises(StudyError, match="cmaes optimises one metric"):
        load(tmp_path, two, "search.sampler=cmaes")
    with pytest.raises(StudyError, match="early_stopping compares trials by one metric"):
        load(tmp_path, two, "search.early_stopping={method: median}")


def test_a_search_needs_something_to_vary(tmp_path: Path) -> None:
    grid = ("discriminator.width=8", "discriminator.depth=1", "fit.learning_rate=1e-3")
    with pytest.raises(StudyError, match="optuna needs a field that is a domain"):
        load(tmp_path, *grid)

"""Domains of a study file, valid and invalid."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.reading.load import load_study, lock_text
from dgray.errors import StudyError
from dgray.plan.cells import cells_of
from dgray.plan.plan import make_plan
from tests.search.analytic import load


def test_every_combination_of_axes_has_a_search(tmp_path: Path) -> None:
    study = load(tmp_path, "fit.objective=[cross_entropy, kl, oracle]", "data.num_real=[50, 100]")
    labels = [cell.label for cell in cells_of(study)]
    assert labels == [
        f"{objective}, num_real {size}"
        for size in (50, 100)
        for objective in ("cross_entropy", "kl")
    ]
    assert len({cell.id for cell in cells_of(study)}) == 4
    assert [t.objective for t in make_plan(study).trials] == ["base", "oracle"]


def test_the_lock_file_describes_the_same_search(tmp_path: Path) -> None:
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
        ("discriminator.width={int: [8.5, 9]}", "int must have whole ends"),
        ("discriminator.width={int: [0, 9]}", r"discriminator.width\[0\]: must be > 0"),
        ("fit.objective={choice: []}", "choice must be a list of values"),
        ("fit.objective={choice: [kl, klx]}", "must be one of"),
        ("evaluate.guidance_weight={choice: [1, [1, 2]]}", "a choice must be of single values"),
        ("evaluate.num_steps={int: [8, 16]}", "varies guidance_weight alone"),
        (
            "data.num_real={int: [10, 20]}",
            "a search varies fields of correction, discriminator, fit, evaluate",
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
def test_invalid_domains_and_searches_are_refused_with_their_place(
    tmp_path: Path, override: str, rule: str
) -> None:
    with pytest.raises(StudyError, match=rule) as error:
        load(tmp_path, override)
    assert "--set " in str(error.value) or "s.yaml:6:17" in str(error.value)


def test_cmaes_and_early_stopping_need_one_metric(tmp_path: Path) -> None:
    two = "search.metrics={kl: minimize, fit_seconds: minimize}"
    with pytest.raises(StudyError, match="cmaes optimises one metric"):
        load(tmp_path, two, "search.sampler=cmaes")
    with pytest.raises(StudyError, match="early_stopping compares trials by one metric"):
        load(tmp_path, two, "search.early_stopping={method: median}")


def test_a_search_needs_a_domain(tmp_path: Path) -> None:
    grid = ("discriminator.width=8", "discriminator.depth=1", "fit.learning_rate=1e-3")
    with pytest.raises(StudyError, match="optuna needs a field that is a domain"):
        load(tmp_path, *grid)


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (("search.metrics={fid: minimize}",), "'fid' needs images, but the data are points"),
        (("search.constraints={nll: 3}",), "add 'nll' to evaluate.metrics"),
        (
            ("search.metrics={kl: minimize}",),
            r"add 'kl' to evaluate.metrics, which is \['path_kl'",
        ),
        (("search.metrics={kl_change: minimize}",), "add 'kl' to evaluate.metrics"),
        (
            (
                "search.metrics={kl: minimize, kl_sde: minimize}",
                "evaluate.metrics=[kl, kl_sde]",
                "evaluate.sampler=[ode, sde]",
            ),
            "'kl_sde' is of a stochastic sampler and kl of the deterministic one",
        ),
        (
            (
                "data={kind: digits}",
                "base={kind: trained, num_real: 500}",
                "evaluate.metrics=[nll]",
                "search.metrics={fd: minimize}",
            ),
            r"add 'fd' to evaluate.metrics, which is \['nll'\]",
        ),
        (
            (
                "data={kind: digits}",
                "base={kind: trained, num_real: 500}",
                "evaluate.metrics=[fd]",
                "search.metrics={kl: minimize}",
            ),
            "'kl' needs points, but the data are images",
        ),
    ],
)
def test_a_search_needs_metrics_that_are_measured(
    overrides: tuple[str, ...], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=rule):
        load(tmp_path, *overrides)


@pytest.mark.parametrize(
    ("when", "rule"),
    [
        ("{fit.objectiv: kl}", "there is no field 'fit.objectiv'; did you mean 'fit.objective'?"),
        ("{fit.objective: mixd}", "fit.objective is never mixd, but kl, mixed, so this would"),
        ("{fit.epochs: [10, 30]}", "fit.epochs is never 10 or 30, but 20"),
        (
            "{fit.learning_rate: 1e-3}",
            "fit.learning_rate must have single values, but it is 0.0001",
        ),
        ("{discriminator.depth: [4, 5]}", "discriminator.depth is never 4 or 5, but 1 to 3"),
        ("kl", "when must be fields with values"),
    ],
)
@pytest.mark.parametrize("domain", ["uniform: [0, 1]", "choice: [0, 0.5]"])
def test_conditions_refer_to_existing_fields_and_values(
    domain: str, when: str, rule: str, tmp_path: Path
) -> None:
    gamma = f"fit.gamma={{{domain}, when: {when}}}"
    with pytest.raises(StudyError) as error:
        load(tmp_path, gamma, "fit.objective={choice: [kl, mixed]}")
    (line,) = str(error.value).splitlines()
    assert rule in line


def test_a_mistake_in_a_domain_gives_one_message(tmp_path: Path) -> None:
    for override, rule in (
        ("fit.learning_rate={log_uniform: [0, 1e-2]}", "must have low > 0"),
        ("fit.learning_rate={loguniform: [1e-4, 1e-2]}", "did you mean 'log_uniform'?"),
        ("evaluate.sampler={choice: [ode, sde]}", "varies guidance_weight alone"),
    ):
        alone = ("discriminator.width=8", "discriminator.depth=1")
        with pytest.raises(StudyError) as error:
            load(tmp_path, override, *alone)
        (line,) = str(error.value).splitlines()
        assert rule in line
    with pytest.raises(
        StudyError, match=r"a domain must change at least one trial, but fit\.gamma applies"
    ):
        load(tmp_path, "fit.gamma={uniform: [0, 1]}")


def test_near_misses_are_suggested_and_short_forms_accepted(tmp_path: Path) -> None:
    for override, near in (
        ("search.metrics={path_kl: minimize}", "path_kl_change"),
        ("search.constraints={fit_second: 3}", "fit_seconds"),
        ("search.sampler={name: tpe, arguments: {n_startup: 3}}", "n_startup_trials"),
    ):
        with pytest.raises(StudyError, match=f"did you mean '{near}'"):
            load(tmp_path, override)
    search = load(tmp_path, "search.early_stopping=median").configs[0].config.search
    assert search.early_stopping is not None  # type: ignore[union-attr]
    assert search.early_stopping.method == "median"  # type: ignore[union-attr]


def test_the_example_of_the_docs_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    study = load(tmp_path, text=example)
    assert [cell.label for cell in cells_of(study)] == ["cross_entropy", "kl", "mixed"]


def test_a_cell_without_domains_has_one_point(tmp_path: Path) -> None:
    fixed = ("discriminator.width=8", "discriminator.depth=1", "fit.learning_rate=1e-3")
    gamma = "fit.gamma={uniform: [0, 1], when: {fit.objective: mixed}}"
    study = load(tmp_path, *fixed, gamma, "fit.objective=[kl, mixed]")
    assert [(c.label, c.search.num_trials) for c in cells_of(study)] == [("kl", 1), ("mixed", 8)]

"""The plan: which trials, which ids, which settings."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from dgray.catalogue import SETTING_COLUMNS
from dgray.config.reading.load import load_study
from dgray.errors import StudyError
from dgray.plan.cells import cells_of, point_trial
from dgray.plan.plan import Plan, Setting, make_plan

STUDY = """\
name: plan
data: {kind: mixture, name: ring8, num_real: [100, 1000]}
base: {kind: wrong_mixture, std_scale: 1.3}
discriminator: {width: [16, 64]}
fit: {objective: [kl, oscillating, cross_entropy, oracle], epochs: 4, checkpoints: [2, 4]}
evaluate: {guidance_weight: [0, 0.5, calibrated], sampler: [ode, sde], num_steps: [8, 16]}
replicates: 3
"""


def plan_of(folder: Path, *overrides: str, text: str = STUDY) -> Plan:
    path = folder / "study.yaml"
    path.write_text(text)
    return make_plan(load_study(path, overrides))


def objectives(plan: Plan) -> list[str]:
    return [trial.objective for trial in plan.trials]


def test_the_base_comes_first_then_controls_then_trained(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert objectives(plan) == ["base", "oscillating", "oracle"] + ["kl", "cross_entropy"] * 4
    assert len({trial.id for trial in plan.trials}) == 11


def test_counts_are_products_of_replicates_checkpoints_and_settings(tmp_path: Path) -> None:
    counts = plan_of(tmp_path).counts
    # base: 2 samplers x 2 numbers of steps; guided: those x 2 weights.
    assert counts.trials == 11
    assert counts.trainings == 8 * 3
    assert counts.checkpoints == 3 + 8 * 2
    assert counts.evaluations == 4 + 2 * 8 + 8 * 2 * 8
    assert counts.rows == 4 + 2 * 8 + 8 * 3 * 2 * 8


def test_base_and_controls_have_one_replicate_at_epoch_0(tmp_path: Path) -> None:
    for trial in plan_of(tmp_path).trials:
        is_trained = trial.objective in ("kl", "cross_entropy")
        assert trial.is_trained == is_trained
        assert trial.epochs == ((2, 4) if is_trained else (0,))
        assert trial.replicates == (3 if is_trained else 1)


def test_axes_and_labels_name_what_varies_and_matters(tmp_path: Path) -> None:
    trials = plan_of(tmp_path).trials
    assert [trial.label for trial in trials[:4]] == [
        "base",
        "oscillating",
        "oracle",
        "kl, num_real 100, width 16",
    ]
    assert dict(trials[0].axes) == {}
    assert dict(trials[2].axes) == {"fit.objective": "oracle"}
    assert dict(trials[3].axes) == {
        "data.num_real": 100,
        "discriminator.width": 16,
        "fit.objective": "kl",
    }


def test_labels_keep_the_path_where_the_last_part_is_ambiguous(tmp_path: Path) -> None:
    trained = "base={kind: trained, width: [8, 9]}"
    plan = plan_of(tmp_path, trained, "fit.objective=kl", "data.num_real=50")
    assert plan.trials[-1].label == "kl, base.width 9, discriminator.width 64"


def test_an_axis_of_the_base_makes_one_base_trial_a_value(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "base.std_scale=[1.1, 1.3]", "fit.objective=kl")
    assert [trial.label for trial in plan.trials[:2]] == [
        "base, std_scale 1.1",
        "base, std_scale 1.3",
    ]
    assert objectives(plan).count("base") == 2


def test_ids_say_the_objective_and_are_stable(tmp_path: Path) -> None:
    first, second = plan_of(tmp_path), plan_of(tmp_path)
    assert first.trials == second.trials
    for trial in first.trials:
        objective, _, digits = trial.id.rpartition("-")
        assert objective == trial.objective
        assert len(digits) == 8
        assert set(digits) <= set("0123456789abcdef")


IRRELEVANT = {
    "all": [
        "name=other",
        "description=other",
        "resources.cpus_per_trial=2",
        "resources.max_failures=3",
        "fit.noise.log_mean=0",
        "evaluate.churn.S_churn=5",
    ],
    "base": [
        "fit.epochs=9",
        "fit.objective=kl",
        "discriminator.depth=2",
        "replicates=5",
        "base.num_generated=5",
        "data.num_real=7",
        "evaluate.guidance_weight=3",
        "evaluate.guidance_interval=[1, 2]",
    ],
    "oracle": [
        "fit.epochs=9",
        "discriminator.depth=2",
        "replicates=5",
        "data.num_real=7",
        "base.num_generated=5",
        "fit.oscillation.frequency=7",
    ],
    "oscillating": ["fit.epochs=9", "discriminator.depth=2", "replicates=5", "data.num_real=7"],
    "kl": [
        "fit.gamma=3",
        "fit.gradient_penalty=3",
        "base.num_generated=5",
        "fit.oscillation.amplitude=3",
    ],
    "cross_entropy": ["fit.gamma=3", "fit.oscillation.amplitude=3"],
    "mixed": ["fit.gradient_penalty=3"],
}
RELEVANT = {
    "all": ["seed=4", "diffusion.sigma_max=50", "base.std_scale=2", "evaluate.num_points=9"],
    "base": ["data.name=grid25", "data.num_held_out=3000", "evaluate.num_steps=9"],
    "oracle": ["evaluate.guidance_weight=3", "evaluate.guidance_interval=[1, 2]"],
    "oscillating": ["fit.oscillation.frequency=7", "evaluate.guidance_weight=3"],
    "kl": ["replicates=5", "data.num_real=7", "fit.epochs=9", "fit.checkpoints=[1, 4]"],
    "cross_entropy": ["fit.gradient_penalty=3", "base.num_generated=5", "fit.patience=5"],
    "mixed": ["fit.gamma=3", "base.num_generated=5", "discriminator.depth=2"],
}
ONE = STUDY.replace("[100, 1000]", "100").replace("[16, 64]", "16")


def id_of(folder: Path, objective: str, *overrides: str) -> str:
    chosen = [] if objective == "base" else [f"fit.objective={objective}"]
    plan = plan_of(folder, *chosen, *overrides, text=ONE)
    (trial,) = [trial for trial in plan.trials if trial.objective == objective]
    return trial.id


@pytest.mark.parametrize("objective", [name for name in RELEVANT if name != "all"])
def test_an_id_changes_with_what_matters_and_with_nothing_else(
    tmp_path: Path, objective: str
) -> None:
    own = id_of(tmp_path, objective)
    for override in IRRELEVANT["all"] + IRRELEVANT[objective]:
        assert id_of(tmp_path, objective, override) == own, override
    for override in RELEVANT["all"] + RELEVANT[objective]:
        assert id_of(tmp_path, objective, override) != own, override


def test_the_training_samples_never_matter_to_the_base(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "evaluate.metrics=[memorisation]", "data.num_held_out=2000")
    assert objectives(plan).count("base") == 1


def test_no_checkpoints_mean_the_last_epoch(tmp_path: Path) -> None:
    named = id_of(tmp_path, "kl", "fit.checkpoints=[4]")
    assert id_of(tmp_path, "kl", "fit.checkpoints=null") == named
    plan = plan_of(tmp_path, "fit.checkpoints=null")
    assert plan.trials[-1].epochs == (4,)


def test_an_axis_multiplies_only_the_trials_it_matters_to(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, "fit.objective=[kl, cross_entropy, mixed]", "fit.gamma=[0.1, 1]", text=ONE
    )
    assert [trial.label for trial in plan.trials] == [
        "base",
        "kl",
        "cross_entropy",
        "mixed, gamma 0.1",
        "mixed, gamma 1.0",
    ]


def test_the_base_is_unguided_under_every_sampler(tmp_path: Path) -> None:
    settings = plan_of(tmp_path, "evaluate.guided_stage=[predictor]").trials[0].settings
    assert [(s.sampler, s.num_steps) for s in settings] == [
        ("ode", 8),
        ("ode", 16),
        ("sde", 8),
        ("sde", 16),
    ]
    assert {(s.guidance_weight, s.interval, s.guided_stage) for s in settings} == {
        (0.0, None, "both")
    }


def test_weight_0_is_left_to_the_base_and_null_means_calibrated(tmp_path: Path) -> None:
    settings = plan_of(tmp_path).trials[-1].settings
    assert [s.guidance_weight for s in settings[:2]] == [0.5, None]
    assert [s.is_calibrated for s in settings[:2]] == [False, True]
    assert all(s.guidance_weight != 0 for s in settings)


def test_settings_of_the_same_meaning_are_one(tmp_path: Path) -> None:
    """The reverse SDE has one stage, so guiding only the predictor is nothing of its own."""
    plan = plan_of(
        tmp_path,
        "evaluate.guided_stage=[both, predictor]",
        "evaluate.guidance_weight=1",
        "evaluate.num_steps=8",
        "evaluate.sampler=[ode, churn, sde]",
    )
    assert [(s.sampler, s.guided_stage) for s in plan.trials[-1].settings] == [
        ("ode", "both"),
        ("ode", "predictor"),
        ("churn", "both"),
        ("churn", "predictor"),
        ("sde", "both"),
    ]


def test_a_selection_among_samples_of_the_base_has_no_stages(tmp_path: Path) -> None:
    stages, kinds = (
        "evaluate.guided_stage=[both, predictor]",
        "correction.kind=[guidance, rejection]",
    )
    plan = plan_of(tmp_path, stages, kinds, "evaluate.sampler=[ode, churn]")
    counts = {t.correction: Counter(s.guided_stage for s in t.settings) for t in plan.trials}
    assert counts["guidance"]["predictor"] > 0
    assert counts["rejection"].keys() == {"both"}


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_setting_is_read_back_from_its_columns(tmp_path: Path, missing: float | None) -> None:
    """Among them settings that differ in the upper end of their interval alone."""
    overrides = (
        "evaluate.guidance_interval=[null, [0.1, 1], [0.1, 2]]",
        "evaluate.guided_stage=[both, predictor]",
    )
    for setting in plan_of(tmp_path, *overrides).trials[-1].settings:
        columns = setting.columns()
        assert tuple(columns) == SETTING_COLUMNS
        row = {name: missing if value is None else value for name, value in columns.items()}
        assert Setting.from_columns(row) == setting


def test_a_setting_holds_its_interval(tmp_path: Path) -> None:
    overrides = (
        "evaluate.guidance_interval=[0.1, 1]",
        "evaluate.sampler=ode",
        "evaluate.num_steps=8",
    )
    assert plan_of(tmp_path, *overrides).trials[-1].settings[0] == Setting(
        guidance_weight=0.5,
        sampler="ode",
        num_steps=8,
        interval=(0.1, 1.0),
        guided_stage="both",
    )


SMALL = """\
name: budget
data: {kind: mixture, name: ring8, num_real: 20}
base: {kind: wrong_mixture, std_scale: 1.3, num_generated: 20}
discriminator: {width: 4, depth: 1}
fit: {epochs: 2}
"""
TRAINED = "base={kind: trained}"


@pytest.mark.parametrize(
    ("overrides", "place", "rule"),
    [
        (["budget.train_flops=1"], "budget.train_flops", "one costs 4.16e+03 of cross_entropy; "),
        (
            ["budget.train_flops=1", "correction.kind=[guidance, residual, sims]"],
            "budget.train_flops",
            "4.16e+03 of cross_entropy, 2.56e+03 of residual, 2.56e+03 of sims; raise it to 4160",
        ),
        (
            ["budget.train_flops=4e3", "data.num_real=[10, 20]"],
            "budget.train_flops",
            "one costs 4.16e+03 of cross_entropy; raise it to 4160",
        ),
        (["budget.train_flops=1e20"], "budget.train_flops", "covers 2.4e+16 of cross_entropy"),
        (
            ["budget.train_flops=1e20", "fit.epochs=7"],
            "budget.train_flops",
            "lower it (7 epochs cost 2.91e+04)",
        ),
        (
            [
                "budget.train_flops=5e3",
                "discriminator.width={int: [4, 64]}",
                "search={method: optuna, num_trials: 2}",
            ],
            "budget.train_flops",
            "must cover an epoch of every trial",
        ),
        (
            ["budget.train_flops=1e9", "correction.kind.factory=nowhere:shifts"],
            "budget.train_flops",
            "the operations of shifts cannot be counted: ModuleNotFoundError: No module named",
        ),
        (
            ["budget.train_flops=1e9", "data={kind: points, path: gone.npz}", TRAINED],
            "data",
            "there is no such file; budget.train_flops cannot be counted without it",
        ),
        (
            ["budget.train_flops=1e9", "data={kind: folder, path: gone}", TRAINED],
            "data",
            "there is no such folder",
        ),
        (
            [
                "budget.train_flops=1e9",
                "data={kind: torchvision, name: USPS, root: gone}",
                TRAINED,
            ],
            "data",
            "USPS is missing",
        ),
        (
            ["budget.train_flops=1e9", "data={kind: digits}", "base={kind: edm, network: gone}"],
            "base.network",
            "there is no file gone",
        ),
        (
            [
                "budget.train_flops=1e9",
                "data={kind: digits}",
                "base={kind: diffusers, path: gone}",
            ],
            "budget.train_flops",
            "a budget needs a base whose size is known",
        ),
    ],
)
def test_an_impossible_budget_is_refused_with_its_place(
    tmp_path: Path, overrides: list[str], place: str, rule: str
) -> None:
    with pytest.raises(StudyError) as refused:
        plan_of(tmp_path, *overrides, text=SMALL)
    (diagnostic,) = refused.value.diagnostics
    assert str(diagnostic.place).startswith(f"--set {place.partition('.')[0]}")
    assert diagnostic.field == place
    assert rule in diagnostic.rule


def test_an_impossible_budget_has_the_line_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml:6:10: budget\.train_flops: must cover"):
        plan_of(tmp_path, text=SMALL + "budget: {train_flops: 1}\n")


def test_the_advice_about_a_budget_works(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="raise it to") as refused:
        plan_of(tmp_path, "budget.train_flops=10", "discriminator.width=13", text=SMALL)
    advice = re.search(r"raise it to (\S+) or more", str(refused.value))
    assert advice is not None
    plan = plan_of(
        tmp_path, f"budget.train_flops={advice[1]}", "discriminator.width=13", text=SMALL
    )
    assert plan.trials[-1].epochs == (1,)


def test_a_point_of_a_search_beyond_the_budget_is_an_impossible_point(tmp_path: Path) -> None:
    domains = ["discriminator.width={int: [4, 8]}", "discriminator.depth={int: [1, 4]}"]
    search = "search={method: optuna, num_trials: 2}"
    study = plan_of(tmp_path, "budget.train_flops=2e4", *domains, search, text=SMALL).study
    (cell,) = cells_of(study)
    point = {("discriminator", "width"): 8, ("discriminator", "depth"): 4}
    with pytest.raises(ValueError, match=r"budget\.train_flops: must cover an epoch"):
        point_trial(study, cell, point)

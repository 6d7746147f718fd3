"""Axes: a list where a scalar is expected, and nothing else."""

from __future__ import annotations

import pytest

from tests.config.conftest import MINIMAL, Load, Refuse


def test_lists_of_scalars_are_axes_in_the_order_of_the_models(load: Load) -> None:
    study = load(
        "fit: {objective: [kl, cross_entropy], learning_rate: [1, 0.1]}\n"
        "diffusion: {prior_std: [null, 2]}\n"
        "name: a\nbase: {kind: wrong_mixture}\n"
        "data: {kind: mixture, name: [ring8, grid25]}\n"
    )
    assert list(study.axes.items()) == [
        ("diffusion.prior_std", (None, 2.0)),
        ("data.name", ("ring8", "grid25")),
        ("fit.objective", ("kl", "cross_entropy")),
        ("fit.learning_rate", (1.0, 0.1)),
    ]
    assert len(study.configs) == 16
    assert [dict(item.axes) for item in study.configs[:3]] == [
        {
            "diffusion.prior_std": None,
            "data.name": "ring8",
            "fit.objective": objective,
            "fit.learning_rate": rate,
        }
        for objective, rate in (("kl", 1.0), ("kl", 0.1), ("cross_entropy", 1.0))
    ]
    for item in study.configs:
        assert item.config.fit.learning_rate == item.axes["fit.learning_rate"]
        assert item.config.data.name == item.axes["data.name"]


def test_fields_that_are_lists_are_no_axes(load: Load) -> None:
    study = load(
        """\
name: a
data: {kind: mixture, components: {means: [[0, 1], [1, 0]], stds: [1, 2], weights: [1, 3]}}
base: {kind: wrong_mixture, mean_shift: [0.5, 1]}
fit: {epochs: 5, checkpoints: [1, 5]}
evaluate:
  guidance_weight: [1, calibrated]
  sampler: [ode, sde]
  num_steps: [8, 16]
  guidance_interval: [null, [0.1, 1]]
  guided_stage: [both, predictor]
  metrics: [kl]
"""
    )
    assert study.axes == {}
    config = study.configs[0].config
    assert config.fit.checkpoints == (1, 5)
    assert config.evaluate.guidance_interval == (None, (0.1, 1.0))
    assert config.evaluate.num_steps == (8, 16)


def test_a_list_of_vectors_is_an_axis_where_a_vector_is_a_value(load: Load) -> None:
    text = MINIMAL.replace("std_scale: 1.3", "mean_shift: [0, [1, 0], [0, 1]]")
    assert load(text).axes == {"base.mean_shift": (0.0, (1.0, 0.0), (0.0, 1.0))}


def test_an_axis_of_one_value_is_an_axis(load: Load) -> None:
    assert load(MINIMAL + "discriminator: {width: [16]}\n").axes == {"discriminator.width": (16,)}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "fit: {epochs: []}",
            "study.yaml:4:7: fit.epochs: an axis must have at least one value, but got []",
        ),
        (
            "fit: {epochs: [3, 4, 3]}",
            "study.yaml:4:22: fit.epochs[2]: an axis must not repeat a value, but got 3 twice",
        ),
        (
            "fit: {learning_rate: [1, 1.0]}",
            "study.yaml:4:26: fit.learning_rate[1]: an axis must not repeat a value, "
            "but got 1.0 twice",
        ),
        (
            "evaluate: {sampler: []}",
            "study.yaml:4:12: evaluate.sampler: an axis must have at least one value, but got []",
        ),
        (
            "evaluate: {guidance_weight: [1, 2, 1]}",
            "study.yaml:4:36: evaluate.guidance_weight[2]: an axis must not repeat a value, "
            "but got 1 twice",
        ),
        (
            f"seed: {list(range(101))}\nreplicates: {list(range(1, 101))}",
            "study.yaml:4:1: seed: the axes make 10100 trials, more than 10000; shorten some of "
            "them",
        ),
        (
            "budget: {train_flops: 1e9}\nfit: {epochs: [2, 4]}",
            "study.yaml:5:7: fit.epochs: must have one value with budget.train_flops, which sets "
            "the epochs of every trial, but is an axis; give it one value, or remove the budget",
        ),
        (
            "budget: {train_flops: 1e9}\nfit: {epochs: {int: [2, 4]}}\n"
            "search: {method: optuna, num_trials: 2}",
            "study.yaml:5:7: fit.epochs: must have one value with budget.train_flops, which sets "
            "the epochs of every trial, but is a domain; give it one value, or remove the budget",
        ),
        (
            "fit: {objective: [kl, cross_entropy]}\ncorrection: {kind: [residual, sims]}",
            "study.yaml:4:7: fit.objective: an axis must change at least one trial, but "
            "fit.objective applies to no trial with correction residual, sims; give it one value",
        ),
        (
            "fit: {gamma: [1, 2]}\ncorrection: {kind: [guidance, rejection]}",
            "study.yaml:4:7: fit.gamma: an axis must change at least one trial, but fit.gamma "
            "applies to no trial with correction rejection or objective cross_entropy; give it "
            "one value",
        ),
        (
            "fit: {gamma: [1, 2]}",
            "study.yaml:4:7: fit.gamma: an axis must change at least one trial, but fit.gamma "
            "applies to no trial with objective cross_entropy; give it one value",
        ),
    ],
)
def test_an_axis_without_effect_is_refused(refuse: Refuse, line: str, problem: str) -> None:
    assert refuse(MINIMAL + line + "\n") == [problem]


def test_each_value_of_an_axis_is_validated_at_its_own_line(refuse: Refuse) -> None:
    text = MINIMAL + "discriminator:\n  width:\n    - 16\n    - wide\n    - -1\n  depth: [1, 0]\n"
    assert refuse(text) == [
        "study.yaml:7:7: discriminator.width[1]: must be an integer, but got 'wide'",
        "study.yaml:8:7: discriminator.width[2]: must be > 0, but got -1",
        "study.yaml:9:14: discriminator.depth[1]: must be > 0, but got 0",
    ]


def test_rules_between_axes_hold_for_every_combination(refuse: Refuse) -> None:
    """Only the last combination is wrong: 100 checkpoints in 50 epochs."""
    text = MINIMAL + "fit: {epochs: [200, 50], checkpoints: [20, 100]}\n"
    assert refuse(text) == [
        "study.yaml:4:26: fit.checkpoints: must be <= epochs, but got 100 > 50"
    ]

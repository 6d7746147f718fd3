"""Impossible combinations of fields."""

from __future__ import annotations

import pytest

from tests.config.conftest import Load, Refuse

TEMPLATE = """\
name: a
data: {{kind: mixture, {data}}}
base: {{{base}}}
{rest}
"""
RING = "name: ring8"
WRONG = "kind: wrong_mixture"
COMPONENTS_3D = "components: {means: [[0, 0, 0]], stds: [1]}"


@pytest.mark.parametrize(
    ("data", "base", "rest", "problem"),
    [
        (
            RING,
            WRONG + ", num_generated: 0",
            "fit: {objective: [kl, mixed]}",
            "study.yaml:3:29: base.num_generated: must be > 0 for objective 'mixed', which "
            "compares real with generated samples, but got 0; raise it or use objective "
            "'kl' or 'time_score'",
        ),
        (
            RING,
            "kind: trained",
            "fit: {objective: [kl, oracle]}",
            "study.yaml:4:23: fit.objective: 'oracle' needs the exact log-ratio, and a base of "
            "kind 'trained' has no known density; use base.kind 'wrong_mixture' or another "
            "objective",
        ),
        (
            "name: axes16",
            WRONG,
            "evaluate: {metrics: [kl_sde], sampler: sde}",
            "study.yaml:4:12: evaluate.metrics: 'kl_sde' needs data of at most 4 dimensions, but "
            "the data has 16; remove it",
        ),
        (
            COMPONENTS_3D,
            WRONG,
            "evaluate: {metrics: [memorisation]}",
            "study.yaml:4:12: evaluate.metrics: 'memorisation' needs data of at most 2 "
            "dimensions, but the data has 3; remove it",
        ),
        (
            COMPONENTS_3D,
            WRONG,
            "evaluate: {metrics: [observable_path_kl]}",
            "study.yaml:4:12: evaluate.metrics: 'observable_path_kl' needs data of exactly 2 "
            "dimensions, but the data has 3; remove it",
        ),
        (
            RING + ", num_held_out: 50, num_real: 51",
            WRONG,
            "evaluate: {metrics: [memorisation], num_points: 50}",
            "study.yaml:2:36: data.num_held_out: must be >= data.num_real for 'memorisation', "
            "which compares as many of either, but got 50 < 51",
        ),
        (
            RING,
            WRONG,
            "evaluate: {metrics: [kl_sde], sampler: sde, num_samples: 5}",
            "study.yaml:4:45: evaluate.num_samples: must be >= 20 for 'kl_sde', but got 5",
        ),
        (
            RING,
            WRONG,
            "evaluate: {metrics: [kl_sde]}",
            "study.yaml:4:12: evaluate.metrics: 'kl_sde' needs a stochastic sampler; add "
            "'churn', 'sde' or 'restart' to evaluate.sampler, which is ['ode'], or give "
            "evaluate.metrics without 'kl_sde'",
        ),
        (
            RING,
            WRONG,
            "evaluate: {metrics: [kl_sampler], sampler: [sde, churn]}",
            "study.yaml:4:12: evaluate.metrics: 'kl_sampler' needs the deterministic sampler; add "
            "'ode' to evaluate.sampler, which is ['sde', 'churn'], or give evaluate.metrics "
            "without 'kl_sampler'",
        ),
        (
            RING,
            WRONG,
            "evaluate: {metrics: [kl, path_kl], sampler: sde}",
            "study.yaml:4:12: evaluate.metrics: 'kl' needs the deterministic sampler; add 'ode' "
            "to evaluate.sampler, which is ['sde'], or give evaluate.metrics without 'kl'",
        ),
        (
            RING,
            WRONG,
            "evaluate: {sampler: churn}",
            "study.yaml:4:12: evaluate.metrics: 'kl' needs the deterministic sampler; add 'ode' "
            "to evaluate.sampler, which is ['churn'], or give evaluate.metrics without 'kl'",
        ),
        (
            RING + ", num_held_out: 100",
            WRONG,
            "",
            "study.yaml:2:36: evaluate.num_points: must be <= data.num_held_out, "
            "but got 500 > 100",
        ),
        (
            RING,
            WRONG,
            "evaluate: {guidance_interval: [[0.1, 1], [100, 200]]}",
            "study.yaml:4:12: evaluate.guidance_interval: must overlap the noise levels of the "
            "diffusion, [0.002, 80], but got [100.0, 200.0]",
        ),
        (
            RING,
            WRONG,
            "evaluate: {guidance_interval: [2, 1]}",
            "study.yaml:4:12: evaluate.guidance_interval: low < high must hold in "
            "guidance_interval, but got (2.0, 1.0)",
        ),
        (
            RING,
            WRONG,
            "evaluate: {guidance_weight: 0}",
            "study.yaml:4:12: evaluate.guidance_weight: must have a weight other than 0: the "
            "unguided base is always evaluated, but got [0.0]",
        ),
        (
            RING,
            WRONG,
            "evaluate: {churn: {S_min: 2}}",
            "study.yaml:4:20: evaluate.churn.S_min: must be <= S_max, but got 2 > 1",
        ),
        (
            RING,
            WRONG + ", of: five_gaussians_1d",
            "",
            "study.yaml:3:29: base.of: must have the dimension of the data, but got 1 for 2",
        ),
        (
            RING,
            WRONG + ", " + COMPONENTS_3D,
            "",
            "study.yaml:3:29: base.components: must have the dimension of the data, "
            "but got 3 for 2",
        ),
        (
            RING,
            WRONG + ", mean_shift: [1, 2, 3]",
            "",
            "study.yaml:3:29: base.mean_shift: must be a number or one number per dimension, but "
            "got 3 numbers for 2 dimensions",
        ),
        (
            RING,
            WRONG,
            "fit: {noise: {low: 2, high: 1}}",
            "study.yaml:4:15: fit.noise.low: low < high must hold, but got 2.0 and 1.0",
        ),
        (
            RING,
            WRONG,
            "diffusion: {sigma_min: 3, sigma_max: 2}",
            "study.yaml:4:13: diffusion.sigma_min: sigma_min < sigma_max must hold, "
            "but got 3.0 and 2.0",
        ),
        (
            RING,
            WRONG,
            "resources: {gpus_per_trial: 0.5, device: cpu}",
            "study.yaml:4:13: resources.gpus_per_trial: must be 0 with resources.device 'cpu', "
            "but got 0.5; or use 'auto' or 'cuda'",
        ),
        (
            RING,
            WRONG,
            "resources: {device: cuda}",
            "study.yaml:4:13: resources.gpus_per_trial: must be > 0 with resources.device "
            "'cuda', but got 0; or use 'auto' or 'cpu'",
        ),
        (
            RING,
            WRONG,
            "resources: {gpus_per_trial: 1.5}",
            "study.yaml:4:13: resources.gpus_per_trial: must be a whole number of GPUs, or a "
            "fraction of one, but got 1.5; write 1 or 2",
        ),
        (
            RING,
            WRONG,
            "resources: {gpus_per_trial: 1, gpus_per_actor: 0.33333}",
            "study.yaml:4:32: resources.gpus_per_actor: must be a multiple of 0.0001, but got "
            "0.33333",
        ),
        (
            RING,
            WRONG,
            "fit: {checkpoints: [5, 3]}",
            "study.yaml:4:7: fit.checkpoints: must be in increasing order, but got [5, 3]",
        ),
        (
            RING,
            WRONG,
            "fit: {epochs: 10, checkpoints: [5, 80]}",
            "study.yaml:4:19: fit.checkpoints: must be <= epochs, but got 80 > 10",
        ),
        (
            "components: {means: [[0], [1, 2]], stds: [1, 1]}",
            WRONG,
            "",
            "study.yaml:2:36: data.components.means: all means must have the same dimension >= 1, "
            "but got 1 and 2",
        ),
        (
            RING,
            WRONG,
            "resources: {result_cache: s3://bucket/results}",
            "study.yaml:4:13: resources.result_cache: must be a folder of the driver's machine, "
            "or a shared one, but got s3://bucket/results",
        ),
        (
            RING,
            WRONG + ", std_scale: 2, components: {means: [[0, 0]], stds: [1]}",
            "",
            "study.yaml:3:43: base.components: components replaces std_scale; "
            "give one or the other",
        ),
    ],
)
def test_an_impossible_combination_is_refused_with_its_fix(
    refuse: Refuse, data: str, base: str, rest: str, problem: str
) -> None:
    assert refuse(TEMPLATE.format(data=data, base=base, rest=rest)) == [problem]


@pytest.mark.parametrize(
    ("data", "base", "rest"),
    [
        (RING, WRONG + ", num_generated: 0", "fit: {objective: [kl, oracle]}"),
        (RING, "kind: trained", "fit: {objective: [kl, cross_entropy, mixed]}"),
        ("name: axes16", WRONG, "evaluate: {metrics: [kl, path_kl, kl_sampler]}"),
        (RING, WRONG, "evaluate: {metrics: [kl_sde, memorisation], sampler: churn}"),
        (RING, WRONG, "evaluate: {metrics: [path_kl], sampler: sde}"),
        (RING, WRONG, "evaluate: {metrics: [], sampler: sde}"),
        (RING, WRONG + ", of: grid25, mean_shift: [1, 2]", ""),
        (RING, WRONG, "resources: {gpus_per_trial: 0.5, device: cuda}"),
        (RING, WRONG, "resources: {gpus_per_trial: 2.0, gpus_per_actor: 0.3}"),
        (RING, WRONG, "resources: {gpus_per_trial: 1, sampling_actors: 2, device: cuda}"),
        (RING, WRONG, "fit: {noise: {low: 0.002, high: 80}}"),
        (RING + ", num_held_out: 500", WRONG, "evaluate: {guidance_interval: [10, 200]}"),
    ],
)
def test_possible_combinations_load(load: Load, data: str, base: str, rest: str) -> None:
    load(TEMPLATE.format(data=data, base=base, rest=rest))


def test_actors_of_images_need_a_gpu_for_cuda(refuse: Refuse) -> None:
    rest = "resources: {gpus_per_trial: 1, sampling_actors: 2, device: cuda}"
    evaluation = "evaluate: {metrics: [nll]}"
    study = f"name: s\ndata: {{kind: digits}}\nbase: {{kind: trained}}\n{rest}\n{evaluation}\n"
    assert refuse(study) == [
        "study.yaml:4:52: resources.gpus_per_actor: must be > 0 with resources.device 'cuda', "
        "but got 0; or use 'auto' or 'cpu'"
    ]


def test_a_problem_of_many_trials_is_reported_once(refuse: Refuse) -> None:
    rest = "fit: {objective: [cross_entropy, kl]}\ndiscriminator: {width: [1, 2, 3]}\n"
    base = WRONG + ", num_generated: 0"
    assert len(refuse(TEMPLATE.format(data=RING, base=base, rest=rest))) == 1


@pytest.mark.parametrize(
    "network",
    [
        "https://me:hunter2@h.example/a.pkl",
        "https://h.example/a.pkl?sig=hunter2",
        "[a.pkl, 'https://h.example/a.pkl?token=hunter2']",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(
    network: str, refuse: Refuse
) -> None:
    text = f"name: a\ndata: {{kind: cifar10}}\nbase:\n  kind: edm\n  network: {network}\n"
    (problem,) = refuse(text + "fit: {objective: kl}\nevaluate: {metrics: [nll]}\n")
    assert problem.startswith("study.yaml:5:")
    assert ": base.network: an address must not carry credentials" in problem
    assert "hunter2" not in problem


def test_an_address_with_credentials_in_the_description_is_refused(refuse: Refuse) -> None:
    text = "data: {kind: mixture, name: ring8}\nbase: {kind: wrong_mixture, std_scale: 2}\n"
    (problem,) = refuse(f"name: a\ndescription: rows of s3://key:hunter2@bucket/x\n{text}")
    assert problem.startswith("study.yaml:2:1: description: an address must not carry")

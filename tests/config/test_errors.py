"""Messages about single values: place, dotted field, rule, value, nearest valid name."""

from __future__ import annotations

import pytest

from tests.config.conftest import MINIMAL, Load, Refuse


def problem_of(lines: list[str]) -> str:
    """The only problem."""
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "discriminator: {widht: 3}",
            "study.yaml:4:17: discriminator.widht: unknown field; did you mean 'width'?",
        ),
        (
            "fit: {noise: {log_men: 3}}",
            "study.yaml:4:15: fit.noise.log_men: unknown field; did you mean 'log_mean'?",
        ),
        ("epochs: 3", "study.yaml:4:1: epochs: unknown field; did you mean 'fit.epochs'?"),
        (
            "search: {zzz: 3}",
            "study.yaml:4:10: search.zzz: unknown field; the fields here are method",
        ),
        (
            "search: {method: tpe}",
            "study.yaml:4:10: search.method: must be one of 'grid', 'optuna', but got 'tpe'",
        ),
        (
            "fit: {<<: {epochs: 3}}",
            "study.yaml:4:7: fit.<<: merge keys are not supported; write the fields here",
        ),
        (
            "x-common: &a 3",
            "study.yaml:4:1: x-common: unknown field; write an anchor at the first use of its "
            "value, not in a field of its own",
        ),
        (
            "fit: {objective: cross_entropi}",
            "study.yaml:4:7: fit.objective: must be one of 'cross_entropy', 'kl', 'mixed', "
            "'time_score', 'oracle', 'oscillating', but got 'cross_entropi'; did you mean "
            "'cross_entropy'?",
        ),
        (
            "fit: {objective: 3}",
            "study.yaml:4:7: fit.objective: must be one of 'cross_entropy', 'kl', 'mixed', "
            "'time_score', 'oracle', 'oscillating', but got 3",
        ),
        (
            "fit: {epochs: '400'}",
            "study.yaml:4:7: fit.epochs: must be an integer, but got '400'; "
            "write it without quotes",
        ),
        (
            "fit: {epochs: 1e3}",
            "study.yaml:4:7: fit.epochs: must be an integer, but got 1000.0; write 1000",
        ),
        ("fit: {epochs: true}", "study.yaml:4:7: fit.epochs: must be an integer, but got True"),
        ("fit: {epochs: 0}", "study.yaml:4:7: fit.epochs: must be > 0, but got 0"),
        ("fit: {dropout: 1}", "study.yaml:4:7: fit.dropout: must be < 1, but got 1"),
        ("fit: {gamma: -1}", "study.yaml:4:7: fit.gamma: must be >= 0, but got -1"),
        ("fit: {gamma: .inf}", "study.yaml:4:7: fit.gamma: must be finite, but got inf"),
        ("fit: {gamma: big}", "study.yaml:4:7: fit.gamma: must be a number, but got 'big'"),
        ("fit: {checkpoints: 3}", "study.yaml:4:7: fit.checkpoints: must be a list, but got 3"),
        ("fit: 3", "study.yaml:4:1: fit: must be a section of fields, but got 3"),
        ("description: 3", "study.yaml:4:1: description: must be text, but got 3"),
        (
            "fit: [{epochs: 3}, {epochs: 4}]",
            "study.yaml:4:1: fit: must be a section of fields, but got [{'epochs': 3}, "
            "{'epochs': 4}]; only a field can be an axis, so write the lists inside the section",
        ),
        (
            "resources: {cpus_per_trial: [1, 2]}",
            "study.yaml:4:13: resources.cpus_per_trial: must be an integer, but got [1, 2]; "
            "a field of 'resources' cannot be an axis",
        ),
        (
            "evaluate: {guidance_weight: [1, calibrate]}",
            "study.yaml:4:33: evaluate.guidance_weight[1]: must be a number or 'calibrated', "
            "but got 'calibrate'; did you mean 'calibrated'?",
        ),
        (
            "evaluate: {guidance_weight: -1}",
            "study.yaml:4:12: evaluate.guidance_weight: must be >= 0 or 'calibrated', but got -1",
        ),
        (
            "evaluate: {sampler: heun}",
            "study.yaml:4:12: evaluate.sampler: must be one of 'ode', 'churn', 'sde', "
            "'restart', but got 'heun'",
        ),
        (
            "evaluate: {restart: {levels: [0.1, 2]}}",
            "study.yaml:4:22: evaluate.restart.levels: every entry must be a list, but got 0.1 "
            "and 2",
        ),
        (
            "evaluate: {restart: {levels: [[0.1, 2]], K: [1, 2]}}",
            "study.yaml:4:42: evaluate.restart.K: must be one number, or one per interval, but "
            "got 2 for 1 interval",
        ),
        (
            "evaluate: {guidance_interval: [[1, 2, 3]]}",
            "study.yaml:4:32: evaluate.guidance_interval[0]: must have 2 entries, but got "
            "[1, 2, 3]",
        ),
    ],
)
def test_a_broken_value_is_named_with_its_rule(refuse: Refuse, line: str, problem: str) -> None:
    assert problem_of(refuse(MINIMAL + line + "\n")) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name: a\ndata: {kind: mixture, name: ring8}\nbase: {kind: wrong_mixtur}\n",
            "study.yaml:3:8: base.kind: must be one of 'wrong_mixture', 'trained', 'edm', "
            "'diffusers', 'custom', but got 'wrong_mixtur'; did you mean 'wrong_mixture'?",
        ),
        (
            "name: a\ndata: {kind: mixture, name: ring8}\nbase: {std_scale: 2}\n",
            "study.yaml:3:1: base.kind: required field is missing: 'wrong_mixture', 'trained', "
            "'edm', 'diffusers', 'custom'",
        ),
        (
            "name: a\ndata: {name: ring8}\nbase: {kind: trained}\n",
            "study.yaml:2:1: data.kind: required field is missing: 'mixture', 'points', 'digits', "
            "'glyphs', 'cifar10', 'torchvision', 'openmoji', 'folder', 'zip', 'npz', 'images'",
        ),
        (
            "name: a b\ndata: {kind: mixture, name: ring8}\nbase: {kind: trained}\n",
            "study.yaml:1:1: name: must match ^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$, but got 'a b'",
        ),
        (
            "name: a\ndata: {kind: mixture, name: ring8}\n"
            "base: {kind: wrong_mixture, mean_shift: [1, x]}\n",
            "study.yaml:3:45: base.mean_shift[1]: must be a number, but got 'x'",
        ),
        (
            "name: a\ndata: {kind: mixture}\nbase: {kind: trained}\n",
            "study.yaml:2:1: data: name or components must be given, and not both",
        ),
    ],
)
def test_required_fields_and_kinds(refuse: Refuse, text: str, problem: str) -> None:
    assert problem_of(refuse(text)) == problem


def test_the_kind_selects_the_known_fields(refuse: Refuse) -> None:
    text = "name: a\ndata: {kind: mixture, name: ring8}\nbase: {kind: trained, std_scale: 2}\n"
    assert problem_of(refuse(text)).startswith(
        "study.yaml:3:23: base.std_scale: unknown field; the fields here are kind, num_generated"
    )


def test_everything_is_reported_at_once_in_the_order_of_the_file(refuse: Refuse) -> None:
    lines = refuse(
        """\
name: over fit
data: {kind: mixture, name: ring9, num_real: [100, x, 100], num_held_out: 200}
base: {kind: wrong_mixure, std_scale: -1, num_generated: 0}
discriminator: {widht: [16, many]}
fit:
  objective: [cross_entropi, kl]
  epochs: "400"
  checkpoints: [5, 3]
evaluate:
  metrics: [kl, kl_sampler]
  sampler: [sde]
  num_points: 500
resources: {device: cuda}
"""
    )
    assert [": ".join(line.split(": ")[:2]) for line in lines] == [
        "study.yaml:1:1: name",
        "study.yaml:2:23: data.name",
        "study.yaml:2:52: data.num_real[1]",
        "study.yaml:2:55: data.num_real[2]",
        "study.yaml:3:8: base.kind",
        "study.yaml:3:28: base.std_scale",
        "study.yaml:3:43: base.num_generated",
        "study.yaml:4:17: discriminator.widht",
        "study.yaml:4:29: discriminator.width[1]",
        "study.yaml:6:15: fit.objective[0]",
        "study.yaml:7:3: fit.epochs",
        "study.yaml:8:3: fit.checkpoints",
        "study.yaml:10:3: evaluate.metrics",
        "study.yaml:12:3: evaluate.num_points",
        "study.yaml:13:13: resources.gpus_per_trial",
    ]


def test_one_mistake_causes_no_second_message(refuse: Refuse) -> None:
    """Checkpoint 400 is beyond the default number of epochs, but the epochs are the mistake."""
    text = MINIMAL + "fit: {epochs: many, checkpoints: [400]}\nevaluate: {metrics: kl_sde}\n"
    assert refuse(text) == [
        "study.yaml:4:7: fit.epochs: must be an integer, but got 'many'",
        "study.yaml:5:12: evaluate.metrics: must be a list, but got 'kl_sde'",
    ]


def test_a_minimal_study_loads(load: Load) -> None:
    study = load(MINIMAL)
    assert (study.name, study.axes, len(study.configs)) == ("small", {}, 1)
    assert study.configs[0].config.data.name == "ring8"

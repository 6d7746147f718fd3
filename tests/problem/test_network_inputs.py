"""Stored networks are compared with the study and its data before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from diffusers import DDPMScheduler, UNet2DModel

from dgray.base.networks.diffusers_denoiser import load_diffusers
from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.facts import NetworkFacts, diffusers_facts
from dgray.base.networks.importing.stored import StoredNetwork, write_network
from dgray.base.networks.unets.channels import channel_multipliers, is_unet_width
from dgray.base.networks.unets.song import SongUNet
from dgray.cli.study import main
from dgray.errors import ArchitectureError, DiffusersError, NetworkError
from dgray.problem.artifacts import Shared
from dgray.problem.images import image_artifact
from dgray.problem.make_shared import make_edm_base
from tests.problem.written_studies import Values, inspected, plan_of, write_images, write_study


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
    ("options", "message"),
    [
        ({"side": 16}, "data.resize: 16"),
        ({"label_dim": 10}, "conditional on 10 classes, but the data have 2"),
    ],
)
def test_networks_of_edm_are_compared_with_the_study(
    folder: Path, options: Values, message: str
) -> None:
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, **options))}
    (conflict,) = inspected(folder, base=base).conflicts
    assert message in conflict.rule


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
    ("options", "message"),
    [
        ({"sigma_data": 0.0}, "sigma_data must be in"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min < sigma_max must hold"),
    ],
)
def test_impossible_noise_levels_of_a_network(folder: Path, options: Values, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        write_edm(folder, **options)


def test_networks_are_compared_with_the_data_when_they_are_loaded(folder: Path) -> None:
    """A pickle is not compared at plan time; loading it compares it."""
    write_images(folder)
    base = {"kind": "edm", "network": str(write_edm(folder, label_dim=3))}
    config = plan_of(folder, base=base).trials[0].config
    shared = Shared({"images": image_artifact(config, Shared({}))})
    with pytest.raises(NetworkError, match="3 classes, but the data have 2"):
        next(make_edm_base(config, shared, None, None))


@pytest.mark.parametrize(
    ("sections", "field", "fix"),
    [
        ({"base": {"width": 2}}, "base.width", "but is 2; the next is 4"),
        ({"base": {"width": 6}}, "base.width", "but is 6; the next is 8"),
        (
            {"discriminator": {"kind": "conv", "width": 36}, "correction": {"kind": "residual"}},
            "discriminator.width",
            "but is 36; the next is 40",
        ),
    ],
)
def test_widths_that_a_unet_cannot_have(
    folder: Path, sections: dict[str, Values], field: str, fix: str
) -> None:
    write_images(folder)
    (conflict,) = inspected(folder, **sections).conflicts
    assert conflict.field == field
    assert conflict.rule.endswith(fix)


def test_convolutional_discriminators_have_any_width(folder: Path) -> None:
    write_images(folder)
    inspected(folder, discriminator={"kind": "conv", "width": 2}).check()


@pytest.mark.parametrize("resolution", [4, 8])
def test_the_rule_of_widths_is_that_of_the_networks(resolution: int) -> None:
    for width in (*range(1, 34), 36, 40, 44):
        options = {"channel_mult": channel_multipliers(resolution), "num_blocks": 1, "dropout": 0}
        try:
            SongUNet(resolution, 1, 1, model_channels=width, attn_resolutions=(), **options)
        except ValueError:
            assert not is_unet_width(width, resolution)
        else:
            assert is_unet_width(width, resolution)

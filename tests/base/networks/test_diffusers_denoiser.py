"""A tiny random UNet2DModel as a denoiser: all that it can predict, in EDM's variables."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor
from torch.testing import assert_close

from dgray.base.networks.diffusers_denoiser import load_diffusers
from dgray.errors import DiffusersError

STEPS = 50


def save(folder: Path, *, scheduler: Any = DDPMScheduler, **options: Any) -> UNet2DModel:
    torch.manual_seed(0)
    prediction = options.pop("prediction_type", "epsilon")
    schedule: Mapping[str, Any] = options.pop("schedule", {})
    model = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **options,
    ).eval()
    model.save_pretrained(folder)
    scheduler(
        num_train_timesteps=STEPS, beta_end=0.2, prediction_type=prediction, **schedule
    ).save_pretrained(folder)
    return model


def levels(scheduler: DDPMScheduler) -> Tensor:
    return (1 / scheduler.alphas_cumprod.double() - 1).sqrt()


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_against_the_schedulers_own_estimate(tmp_path: Path, prediction: str) -> None:
    """At every level, D is the x0 that diffusers' DDIM step computes."""
    model = save(tmp_path, prediction_type=prediction)
    denoise = load_diffusers(tmp_path)
    scheduler = DDIMScheduler.from_pretrained(tmp_path, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    sigmas = levels(scheduler)
    assert denoise.shape == (1, 8, 8)
    assert_close(denoise.log_sigmas, sigmas.log())
    torch.manual_seed(1)
    for step in (0, 7, 30, STEPS - 1):
        noisy = torch.randn(2, 1, 8, 8)
        with torch.no_grad():
            output = model(noisy, step).sample
            x = noisy.flatten(1).double() / scheduler.alphas_cumprod[step].double().sqrt()
            denoised = denoise(x, sigmas[step].expand(2))
        expected = scheduler.step(output, step, noisy).pred_original_sample
        assert denoised.dtype == torch.float64
        assert_close(denoised.float(), expected.flatten(1), rtol=1e-4, atol=1e-4)


def test_times_between_and_beyond_the_levels(tmp_path: Path) -> None:
    save(tmp_path)
    denoise = load_diffusers(tmp_path)
    log_sigmas = denoise.log_sigmas
    assert_close(denoise.times(log_sigmas.exp()), torch.arange(50.0), rtol=0, atol=1e-4)
    middle = (0.25 * log_sigmas[9] + 0.75 * log_sigmas[10]).exp()
    assert_close(denoise.times(middle[None]), torch.tensor([9.75]), rtol=1e-5, atol=0)
    assert denoise.times(torch.tensor([1e-9, 1e9])).tolist() == [0, 49]


def test_a_pipelines_folder(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    pipeline = DDPMPipeline(model, DDPMScheduler.from_pretrained(tmp_path / "model"))
    pipeline.save_pretrained(tmp_path / "pipeline")
    x, sigma = torch.ones(2, 3, 64), torch.full((2, 3), 0.7)
    with torch.no_grad():
        denoised = load_diffusers(tmp_path / "pipeline")(x, sigma)
        assert_close(denoised, load_diffusers(tmp_path / "model")(x, sigma))


def test_divergence_and_second_derivative(tmp_path: Path) -> None:
    save(tmp_path)
    denoise = load_diffusers(tmp_path)
    torch.manual_seed(2)
    x, sigma = torch.randn(2, 64), torch.tensor([0.3, 2.0])
    _, divergence = denoise.with_divergence(x, sigma)
    jacobian = torch.func.jacrev(lambda v: denoise(v, sigma))(x)
    traces = torch.stack([jacobian[i, :, i].trace() for i in range(2)])
    assert_close(divergence, traces.detach(), rtol=1e-4, atol=1e-4)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((denoise(x, sigma) ** 2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), x)
    assert bool(second.any())


def test_classes(tmp_path: Path) -> None:
    model = save(tmp_path, num_class_embeds=3)
    denoise = load_diffusers(tmp_path)
    assert denoise.num_classes == 3
    x, sigma = torch.ones(2, 64), denoise.log_sigmas[[5, 5]].exp()
    with torch.no_grad():
        denoised = denoise.with_labels(torch.tensor([0, 2]))(x, sigma)
        alpha = (1 + sigma[0] ** 2).rsqrt().float()
        noisy = alpha * x.reshape(2, 1, 8, 8)
        noise = model(noisy, 5, torch.tensor([0, 2])).sample.flatten(1)
    assert_close(denoised, x - sigma[:, None].float() * noise, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="must be given labels"):
        denoise(x, sigma)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\)"):
        denoise.with_labels(torch.tensor([-1]))


def test_a_schedule_that_ends_in_noise(tmp_path: Path) -> None:
    save(tmp_path, scheduler=DDIMScheduler, schedule={"rescale_betas_zero_snr": True})
    denoise = load_diffusers(tmp_path)
    assert bool(denoise.log_sigmas.isfinite().all())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"_class_name": "UNet2DConditionModel"}, "must describe a UNet2DModel"),
        ("config.json", {"time_embedding_type": "fourier"}, "must be positional"),
        ("config.json", {"sample_size": None}, "sample_size must be"),
        ("scheduler_config.json", {"prediction_type": "flow"}, "must be one of epsilon, sample"),
        ("scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "or a DDIMScheduler"),
    ],
)
def test_other_models_are_refused(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    save(tmp_path)
    path = tmp_path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DiffusersError, match=message):
        load_diffusers(tmp_path)


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    model = save(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    torch.save(model.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(DiffusersError, match="no weights as safetensors"):
        load_diffusers(tmp_path)
    with pytest.raises(DiffusersError, match=r"must have .*config\.json"):
        load_diffusers(tmp_path / "nowhere")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"dgray\[diffusers\]"):
        load_diffusers(tmp_path)

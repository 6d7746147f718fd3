"""The pipeline of diffusers: weight 0 is the plain pipeline, weight 1 dgray's own samplers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dgray
from dgray.diffusion.sampler import heun, reverse_sde
from dgray.errors import DiffusersError, GuidedModelError
from dgray.guided.discriminator import SampleDiscriminator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    diffusers = pytest.importorskip("diffusers")

STEPS = 12
PREDICTIONS = ("epsilon", "v_prediction", "sample")
Pipeline: Any = dgray.DiscriminatorGuidancePipeline


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    sizes = {
        "layers_per_block": 1,
        "block_out_channels": (4, 4),
        "norm_num_groups": 2,
        "attention_head_dim": 4,
    }
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, **sizes, **kinds, **changes
    ).eval()


def scheduler(kind: str, prediction: str = "epsilon", **changes: Any) -> Any:
    settings = {"num_train_timesteps": STEPS, "beta_start": 0.01, "beta_end": 0.5}
    return getattr(diffusers, kind)(**settings, prediction_type=prediction, **changes)


def guidance(unet: Any, schedule: Any, **changes: Any) -> dgray.GuidedDenoiser:
    """Return a guided denoiser whose discriminator has learned enough to matter."""
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    low, high = denoiser.log_sigmas[[0, -1]].exp().tolist()
    real = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)) / 2
    discriminator = dgray.fit_discriminator(
        real,
        denoiser,
        sigmas=(low, high),
        discriminator={"width": 2},
        epochs=2,
        batch_size=8,
        learning_rate=0.03,
        **changes,
    )
    return dgray.guide(denoiser, discriminator)


@pytest.fixture(scope="module")
def guided() -> dgray.GuidedDenoiser:
    return guidance(network(), scheduler("DDPMScheduler"))


def as_discriminator(guided: dgray.GuidedDenoiser) -> SampleDiscriminator:
    return SampleDiscriminator(guided.discriminator, guided.space)


def generate(pipeline: Any, steps: int = STEPS, **arguments: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    images: Tensor = pipeline(
        2, generator, num_inference_steps=steps, output_type="latent", **arguments
    ).images
    return images


def noise(count: int) -> list[Tensor]:
    """Return the noise that ``generate`` draws, in its order."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 1, 8, 8, generator=generator).flatten(1).double() for _ in range(count)]


@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
def test_weight_0_is_the_plain_pipeline_bit_for_bit(
    kind: str, guided: dgray.GuidedDenoiser
) -> None:
    unet, schedule = network(), scheduler(f"{kind}Scheduler")
    plain = getattr(diffusers, f"{kind}Pipeline")(unet, schedule)
    plain.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    expected = plain(2, generator, num_inference_steps=6, output_type="np").images
    ours = Pipeline(unet, scheduler(f"{kind}Scheduler"), guided)
    ours.set_progress_bar_config(disable=True)
    for weight, is_same in ((0.0, True), (1.0, False)):
        generator = torch.Generator().manual_seed(3)
        images = ours(
            2, generator, num_inference_steps=6, guidance_weight=weight, output_type="np"
        ).images
        assert (images == expected).all() == is_same
    assert (generate(Pipeline(unet, schedule)) == generate(ours, guidance_weight=0.0)).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weight_1_with_ddpm_is_the_reverse_sde_of_dgray(
    prediction: str, guided: dgray.GuidedDenoiser
) -> None:
    unet, schedule = network(), scheduler("DDPMScheduler", prediction, clip_sample=False)
    samples = generate(Pipeline(unet, schedule, guided))
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    sigmas = torch.cat([denoiser.log_sigmas.exp().flip(0), torch.zeros(1, dtype=torch.float64)])
    start, *steps = noise(STEPS)
    start = start * (1 + sigmas[0] ** 2).sqrt()
    own = dgray.guide(denoiser, as_discriminator(guided)).flat()
    expected = reverse_sde(own, start, sigmas, torch.stack([*steps, torch.zeros_like(start)]))
    torch.testing.assert_close(samples.flatten(1).double(), expected, rtol=1e-3, atol=1e-4)
    unguided = generate(Pipeline(unet, schedule))
    assert (samples - unguided).abs().max() > 0.01  # so that the agreement says something


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weight_1_with_ddim_is_eulers_method_for_the_guided_denoiser(
    prediction: str, guided: dgray.GuidedDenoiser
) -> None:
    settings = {"clip_sample": False, "set_alpha_to_one": True}
    unet, schedule = network(), scheduler("DDIMScheduler", prediction, **settings)
    samples = generate(Pipeline(unet, schedule, guided), steps=6)
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    levels = denoiser.log_sigmas.exp()[schedule.timesteps]
    (x,) = noise(1)
    x = x * (1 + levels[0] ** 2).sqrt()
    own = dgray.guide(denoiser, as_discriminator(guided)).flat()
    for sigma, following in zip(levels, [*levels[1:], 0.0], strict=True):
        x = x + (following - sigma) * (x - own(x, sigma.expand(len(x)))) / sigma
    torch.testing.assert_close(samples.flatten(1).double(), x, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_scheduler_in_sigma_gives_heuns_method_of_dgray(guided: dgray.GuidedDenoiser) -> None:
    unet, schedule = network(), scheduler("HeunDiscreteScheduler")
    samples = generate(Pipeline(unet, schedule, guided))
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    sigmas = torch.cat([denoiser.log_sigmas.exp().flip(0), torch.zeros(1, dtype=torch.float64)])
    (start,) = noise(1)
    expected = heun(
        dgray.guide(denoiser, as_discriminator(guided)).flat(),
        start * float(schedule.init_noise_sigma),
        sigmas,
    )
    torch.testing.assert_close(samples.flatten(1).double(), expected, rtol=1e-3, atol=1e-4)


def test_an_exported_model_is_loaded_into_a_pipeline(
    guided: dgray.GuidedDenoiser, tmp_path: Path
) -> None:
    unet, schedule = network(), scheduler("DDPMScheduler")
    guided.with_weight(0.7, (0.2, 3.0)).save(tmp_path / "exported")
    expected = generate(Pipeline(unet, schedule, guided.with_weight(0.7, (0.2, 3.0))))
    pipeline = Pipeline(unet, schedule)
    pipeline.load_guidance(tmp_path / "exported")
    torch.testing.assert_close(generate(pipeline), expected, rtol=0, atol=0)
    pipeline.save_pretrained(tmp_path / "pipeline")
    again = Pipeline.from_pretrained(tmp_path / "pipeline", use_safetensors=True)
    again.load_guidance(tmp_path / "exported")
    torch.testing.assert_close(generate(again), expected, rtol=0, atol=0)
    with pytest.raises(GuidedModelError, match="load one with load_guidance"):
        generate(Pipeline(unet, schedule), guidance_weight=1.0)
    with pytest.raises(GuidedModelError, match=r"is not a model of diffusers; build a pipeline"):
        Pipeline.from_exported(tmp_path / "exported")


def test_conditional_networks_and_pure_noise_at_the_end_of_the_schedule() -> None:
    unet = network(num_class_embeds=3)
    schedule = scheduler("DDIMScheduler", "v_prediction", rescale_betas_zero_snr=True)
    labels = torch.tensor([0, 2])
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    assert denoiser.num_classes == 3
    assert denoiser.sigma_of(STEPS - 1.0) is None
    model = guidance(unet, schedule, labels=torch.arange(16) % 3)
    images = generate(Pipeline(unet, schedule, model), steps=6, class_labels=labels)
    assert torch.isfinite(images).all()
    assert (images != generate(Pipeline(unet, schedule), steps=6, class_labels=labels)).any()


def test_times_and_noise_levels_are_inverse() -> None:
    denoiser = dgray.diffusers_denoiser(network(), scheduler("DDPMScheduler"))
    for time in (0.0, 0.25, 4.0, 7.9, STEPS - 1.0):
        sigma = denoiser.sigma_of(time)
        assert sigma is not None
        assert float(denoiser.times(torch.tensor([sigma]))) == pytest.approx(time, abs=1e-5)
    with pytest.raises(DiffusersError, match="must have alphas_cumprod"):
        dgray.diffusers_denoiser(network(), diffusers.EDMEulerScheduler())

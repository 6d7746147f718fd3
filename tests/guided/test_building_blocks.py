"""Building blocks without a study: the user's tensors and denoiser, with closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

import dgray
from dgray.diffusion.denoiser import Denoiser, NoiseLevels
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.sampler import rounded_span, sampler_sigmas
from dgray.errors import GuidedModelError, OutputError
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.sampling import Sampling
from tests.guided.normal import SHIFT, denoise, points


def test_scores_are_those_of_closed_forms(guided: dgray.GuidedDenoiser) -> None:
    held_out = points(400, 1)
    exact = SHIFT**2  # KL(N(shift, I) || N(0, I)) in 2 dimensions, which guidance removes
    change = guided.path_kl_change(held_out)
    assert abs(change.value + exact) < 4 * change.se + 0.05
    entropy = math.log(2 * math.pi * math.e)
    nll, base = guided.nll(held_out), guided.with_weight(0).nll(held_out)
    assert abs(nll.value - entropy) < 4 * nll.se + 0.05
    assert abs(base.value - entropy - exact) < 4 * base.se
    samples = guided.sample(400)
    distance = dgray.frechet_distance(samples, held_out)
    unguided = dgray.frechet_distance(guided.with_weight(0).sample(400), held_out)
    assert distance.value < 0.1 < 2 * SHIFT**2 - 4 * unguided.se < unguided.value
    assert guided.with_weight(0).path_kl_change(held_out).value == 0


def test_a_sample_depends_on_its_own_seed_alone(guided: dgray.GuidedDenoiser) -> None:
    samples = guided.sample(4, seeds=3)
    for seeds in ([6, 4], np.array([6, 4]), torch.tensor([6, 4])):
        torch.testing.assert_close(guided.sample(2, seeds=seeds), samples[[3, 1]])
    stochastic = guided.sample(2, sampler="sde", num_steps=5)
    assert stochastic.dtype == torch.float32
    assert (stochastic != guided.sample(2, num_steps=5)).any()


def test_any_callable_is_a_denoiser(discriminator: SampleDiscriminator) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert x.dtype == sigma.dtype == torch.float64
            return self.scale * denoise(x, sigma)

    ones = torch.ones(1, 2, dtype=torch.float64)
    law = GaussianMixture(0 * ones, ones, ones[:, 0])
    x, expected = points(5, 2).double(), None
    for denoiser in (Network(), law, denoise):
        value = dgray.guide(denoiser, discriminator)(x, 0.5)
        assert not value.requires_grad
        expected = value if expected is None else expected
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_discriminator_has_the_logit_and_gradient_of_samples(
    discriminator: SampleDiscriminator,
) -> None:
    x = points(3, 3).double()
    logit, gradient = discriminator(x, 0.7), discriminator.gradient(x, 0.7)
    assert (logit.shape, gradient.shape) == ((3,), x.shape)
    step = 1e-4
    for axis in range(2):
        ahead, behind = x.clone(), x.clone()
        ahead[:, axis] += step
        behind[:, axis] -= step
        slope = (discriminator.logit(ahead, 0.7) - discriminator.logit(behind, 0.7)) / (2 * step)
        torch.testing.assert_close(slope, gradient[:, axis], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    "objective", ["cross_entropy", pytest.param("mixed", marks=pytest.mark.long)]
)
def test_images_as_bytes_and_objectives_that_need_generated_samples(objective: str) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(120, 256, (24, 1, 4, 4), generator=generator, dtype=torch.uint8)
    trained = dgray.fit_discriminator(
        real,
        denoise,
        sigmas=(0.02, 20.0),
        objective=objective,
        discriminator={"width": 2},
        epochs=3,
        batch_size=8,
        learning_rate=2e-2,
    )
    model = dgray.guide(denoise, trained, 0.8, interval=(0.05, 10.0))
    samples = model.sample(20, num_steps=6)
    assert samples.shape == (20, 1, 4, 4)
    features = lambda x: x.float().flatten(1)[:, :3]  # noqa: E731
    assert dgray.frechet_distance(samples, real / 127.5 - 1, features).se > 0
    assert model.path_kl_change(real).value < 0
    nll = model.nll(real[:3], num_probes=1, tolerance=0.1)
    assert math.isfinite(nll.value)


def test_a_conditional_discriminator_of_an_unconditional_denoiser(tmp_path: Path) -> None:
    labels = torch.arange(24) % 3
    real = (labels.reshape(-1, 1, 1, 1) / 3).expand(24, 1, 4, 4).clone()
    settings = {"sigmas": (0.05, 5.0), "epochs": 3, "batch_size": 8, "learning_rate": 0.02}
    network = {"width": 2, "conditional": True}
    trained = dgray.fit_discriminator(
        real, denoise, discriminator=network, labels=labels, **settings
    )
    model = dgray.guide(denoise, trained)
    x = torch.zeros(2, 1, 4, 4)
    first, second = (model(x, 1.0, torch.full((2,), label)) for label in (0, 2))
    assert (first != second).any()
    again = dgray.load_exported(model.save(tmp_path / "model"), denoiser=denoise)
    torch.testing.assert_close(again(x, 1.0, torch.tensor([0, 0])), first)
    torch.testing.assert_close(again.sample(3, num_steps=4), model.sample(3, num_steps=4))
    with pytest.raises(GuidedModelError, match="as many generated samples as real ones"):
        dgray.fit_discriminator(
            real, denoise, objective="cross_entropy", labels=labels, generated=real[:5], **settings
        )


def test_functions_of_the_user_as_objective_and_discriminator(tmp_path: Path) -> None:
    def squared(outputs: Any) -> Tensor:
        return (outputs.real_logit - 1) ** 2 + (outputs.generated_logit + 1) ** 2

    class Network(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(size + 1, 8), nn.SiLU(), nn.Linear(8, 1))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.layers(torch.cat([x, sigma.log()[:, None]], 1))[:, 0]

    def build(size: tuple[int, ...], sigma_data: float, num_classes: int) -> nn.Module:
        return Network(size[0])

    trained = dgray.fit_discriminator(
        points(60, 0),
        denoise,
        sigmas=(0.1, 5.0),
        objective=squared,
        discriminator=build,
        generated=torch.randn(60, 2),
        epochs=2,
    )
    folder = dgray.guide(denoise, trained).save(tmp_path / "mine")
    with pytest.raises(GuidedModelError, match="load it with denoiser=your_denoiser"):
        dgray.load_exported(folder)
    with pytest.raises(GuidedModelError, match="load it with discriminator="):
        dgray.load_exported(folder, denoiser=denoise)
    again = dgray.load_exported(folder, denoiser=denoise, discriminator=build)
    x = points(4, 1)
    torch.testing.assert_close(again(x, 1.0), dgray.guide(denoise, trained)(x, 1.0))


def test_a_stored_model_is_the_same_model(guided: dgray.GuidedDenoiser, tmp_path: Path) -> None:
    model = guided.with_weight(0.6, (0.1, 4.0))
    folder = model.save(tmp_path / "model")
    again = dgray.load_exported(folder, denoiser=denoise)
    torch.testing.assert_close(again.sample(4), model.sample(4), rtol=0, atol=0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "discriminator.safetensors",
        "guidance.json",
    ]
    second_folder = again.save(tmp_path / "again")
    second = dgray.load_exported(second_folder, denoiser=denoise)
    torch.testing.assert_close(second.sample(2), model.sample(2), rtol=0, atol=0)
    with pytest.raises(OutputError, match="must be a new or empty folder"):
        model.save(folder)
    weights = folder / "discriminator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(GuidedModelError, match="has changed since it was exported"):
        dgray.load_exported(folder, denoiser=denoise)
    record = json.loads((second_folder / "guidance.json").read_text())
    for field, message in (("discriminator", "neither a discriminator"), ("sha256", "is damaged")):
        (second_folder / "guidance.json").write_text(json.dumps({**record, field: None}))
        with pytest.raises(GuidedModelError, match=message):
            dgray.load_exported(second_folder, denoiser=denoise)
    record["discriminator"]["arguments"]["width"] = 10**6
    (second_folder / "guidance.json").write_text(json.dumps(record))
    with pytest.raises(GuidedModelError, match="must have more than the"):
        dgray.load_exported(second_folder, denoiser=denoise)
    (folder / "guidance.json").write_text("{}")
    with pytest.raises(GuidedModelError, match="is damaged"):
        dgray.load_exported(folder, denoiser=denoise)
    with pytest.raises(GuidedModelError, match="holds no exported model"):
        dgray.load_exported(tmp_path)


def test_another_weight_keeps_the_interval_and_the_scale_of_the_model(
    discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser, tmp_path: Path
) -> None:
    inside, outside = (points(3, 1), 1.0), (points(3, 1), 8.0)
    limited = dgray.guide(denoise, discriminator, 0.3, np.array([0.1, 4.0], np.float32))
    again = limited.with_weight(0.6)
    everywhere = limited.with_weight(0.6, None)
    assert torch.equal(again(*inside), guided.with_weight(0.6)(*inside))
    assert torch.equal(again(*outside), guided.with_weight(0)(*outside))
    assert torch.equal(everywhere(*outside), guided.with_weight(0.6)(*outside))
    predictor = replace(again, sampling=Sampling(guided_stage="predictor")).with_weight(1.2)
    for index, model in enumerate((again, everywhere, predictor)):
        stored = dgray.load_exported(model.save(tmp_path / str(index)), denoiser=denoise)
        assert stored.weight == model.weight
    assert predictor.weight == again.weight


def test_a_logit_that_is_linear_in_x_has_no_laplacian() -> None:
    class Linear(nn.Module):
        def __init__(self, size: Any, sigma_data: float, num_classes: int) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            logit: Tensor = self.layer(x)[:, 0]
            return logit

    linear = dgray.fit_discriminator(
        points(50, 0), denoise, sigmas=(0.01, 50.0), discriminator=Linear, epochs=1
    )
    x = points(20, 0)
    slope = linear.gradient(x[:1].double(), 1.0)
    flow = dgray.guide(denoise, linear, 1.0)
    # dx/dsigma = sigma x / (1 + sigma^2) - sigma slope: linear, with the divergence of the base
    assert torch.equal(linear.gradient(x.double(), 3.0), slope.expand(20, 2))
    grid = torch.linspace(math.log(0.01), math.log(50.0), 40_001, dtype=torch.float64).exp()
    shift = torch.trapezoid(grid / (1 + grid**2).sqrt(), grid) * slope
    scale = (1 + 50.0**2) ** 0.5
    end = scale * (x.double() / (1 + 0.01**2) ** 0.5 - shift)
    log_prob = torch.distributions.Normal(0, 50.0).log_prob(end).sum(1) + 2 * math.log(
        scale / (1 + 0.01**2) ** 0.5
    )
    assert flow.nll(x, tolerance=1e-6).value == pytest.approx(-float(log_prob.mean()), rel=1e-4)


class Tabulated(Denoiser):
    """The denoiser of N(0, I), called at the noise levels of a table only."""

    levels = NoiseLevels(0.4, 60.0, torch.tensor([0.0, 0.4, 3.0, 20.0, 52.0, 60.0]))

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x, sigma)


def test_the_levels_to_which_samplers_round_the_ends_are_of_the_noise_range(
    discriminator: SampleDiscriminator,
) -> None:
    assert rounded_span(Tabulated(), (0.01, 50.0)) == pytest.approx((0.01, 52.0))
    assert rounded_span(Tabulated(), (0.5, 100.0)) == pytest.approx((0.4, 100.0))
    assert rounded_span(denoise, (0.5, 100.0)) == (0.5, 100.0)
    guided, x = dgray.guide(Tabulated(), discriminator), points(3, 1)
    base = guided.with_weight(0.0)
    assert float(sampler_sigmas(guided.base, 5, guided.space.sigmas, 7.0)[0]) == 52.0
    assert (guided(x, 52.0) != base(x, 52.0)).any()
    for sigma in (60.0, 0.0):
        assert torch.equal(guided(x, sigma), base(x, sigma))

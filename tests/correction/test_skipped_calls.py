"""The discriminator is called only on samples that guidance acts on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import dgray
from dgray.correction.correction import CorrectedBatch
from dgray.correction.guidance import Guidance, guided_denoiser
from dgray.correction.weight import (
    BlockWeight,
    ConstantWeight,
    IntervalWeight,
    SplineWeight,
    Weight,
)
from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import Conditional
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import edm_stochastic, heun, reverse_sde
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Discriminator, Oracle
from dgray.discriminator.objective import Batch, Noised, Outputs
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.space import SampleSpace

DOUBLE = torch.float64
DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means * 1.1, DATA.stds * 1.4, DATA.weights)
ORACLE = Oracle(DATA, BASE)
STEPS = karras_sigmas(18, 0.02, 80.0)
ABOVE = IntervalWeight(ConstantWeight(1.0), 0.3, 80.0)
CHURN = {"S_churn": 20.0, "S_min": 0.01, "S_max": 1.0, "S_noise": 1.007}


@dataclass(frozen=True)
class Counted(Discriminator, Conditional):
    """Another discriminator that records the noise levels of the rows of every call."""

    inner: Discriminator = ORACLE
    calls: list[Tensor] = field(default_factory=list)
    labels: Tensor | None = None
    label_calls: list[Tensor] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        return 2

    def with_labels(self, labels: Tensor) -> Counted:
        return Counted(self.inner, self.calls, labels, self.label_calls)

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.inner.logit(x, sigma)

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        self._count(sigma)
        return self.inner.gradient(x, sigma)

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self._count(sigma)
        return self.inner.gradient_and_laplacian(x, sigma, probes)

    def _count(self, sigma: Tensor) -> None:
        self.calls.append(sigma.flatten().detach().clone())
        if self.labels is not None:
            assert self.labels.shape == sigma.shape
            self.label_calls.append(self.labels.clone())

    @property
    def rows(self) -> int:
        """Number of rows of all calls."""
        return sum(map(len, self.calls))


def masked(base: GaussianMixture, discriminator: Discriminator, weight: Weight) -> Any:
    """Return guidance that calls the discriminator everywhere and multiplies it by the weight."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        factor = (weight(sigma) * sigma**2)[..., None]
        return base(x, sigma) + factor * discriminator.gradient(x, sigma)

    return denoise


def noise(count: int, num_steps: int = 0) -> tuple[Tensor, Tensor]:
    start = 80 * seeded_noise(0, range(count), (2,))
    return start, seeded_noise(0, range(count), (num_steps, 2), "steps").transpose(0, 1)


@pytest.mark.parametrize(
    ("sampler", "options", "calls", "needed"),
    [(heun, {}, 35, 27), (edm_stochastic, CHURN, 35, 27), (reverse_sde, {}, 18, 14)],
)
def test_samplers_leave_out_the_calls_outside_the_interval(
    sampler: Callable[..., Tensor], options: dict[str, float], calls: int, needed: int
) -> None:
    start, steps = noise(6, 18)
    counted, everywhere = Counted(), Counted()
    drawn = sampler(guided_denoiser(BASE, counted, ABOVE), start, STEPS, steps, **options)
    expected = sampler(masked(BASE, everywhere, ABOVE), start, STEPS, steps, **options)
    assert (len(counted.calls), len(everywhere.calls)) == (needed, calls)
    assert all(bool((levels >= 0.3).all()) for levels in counted.calls)
    assert torch.equal(drawn, expected)


def test_of_a_batch_only_the_settings_that_act_are_guided() -> None:
    """Blocks of one batch with other intervals, weight 0, and a weight that is 0 at some knots."""
    knots = torch.linspace(math.log(0.02), math.log(80), 5, dtype=DOUBLE)
    spline = SplineWeight(knots, torch.tensor([0, 0, 0, 1, 1], dtype=DOUBLE))
    weights = (ConstantWeight(0.5), ABOVE, ConstantWeight(0.0), spline)
    start, _ = noise(16)
    counted = Counted()
    labels = torch.arange(4).repeat_interleave(16) % 2
    guided = guided_denoiser(BASE, counted, BlockWeight(weights), labels)
    together = heun(guided, start.repeat(4, 1), STEPS)
    apart = [heun(masked(BASE, ORACLE, weight), start, STEPS) for weight in weights]
    assert torch.equal(together, torch.cat(apart))
    levels = torch.cat([STEPS[:1], STEPS[1:-1].repeat_interleave(2)])
    acting = sum(int((weight(levels) != 0).sum()) for weight in weights)
    assert counted.rows == 16 * acting < 16 * 4 * 35
    assert {len(rows) for rows in counted.calls} == {16, 32, 48}
    chosen = counted.label_calls[-1]  # at the lowest level only the first block acts
    assert torch.equal(chosen, labels[:16])


def test_levels_of_any_mixture_of_rows_are_read_on_the_host() -> None:
    """A user's loop gives a tensor of noise levels, another for each row."""
    counted = Counted()
    sigma = torch.tensor([[0.1, 0.5], [20.0, 0.2]], dtype=DOUBLE)
    x = torch.randn(2, 2, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    denoised = guided_denoiser(BASE, counted, ABOVE)(x, sigma)
    assert counted.calls[0].tolist() == [0.5, 20.0]
    torch.testing.assert_close(denoised, masked(BASE, ORACLE, ABOVE)(x, sigma), rtol=0, atol=0)
    outside = guided_denoiser(BASE, counted, ABOVE)(x, torch.full_like(sigma, 0.2))
    assert len(counted.calls) == 1
    assert torch.equal(outside, BASE(x, torch.full_like(sigma, 0.2)))


def test_a_discriminator_that_fails_outside_the_interval_does_no_harm() -> None:
    class Broken(Counted):
        def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert bool((sigma >= 0.3).all())
            return super().gradient(x, sigma)

    start, _ = noise(4)
    samples = heun(guided_denoiser(BASE, Broken(), ABOVE), start, STEPS)
    assert bool(torch.isfinite(samples).all())


def test_the_flow_calls_the_discriminator_on_the_rows_that_act() -> None:
    """Two weights in one integration: every row keeps the bits that it has alone."""
    x = DATA.sample(64, torch.Generator().manual_seed(0))
    counted = Counted()
    weights = [ABOVE, ConstantWeight(1.0)]
    owner = torch.arange(2).repeat_interleave(64)
    breaks = torch.tensor([[0.3, 80.0], [math.nan, math.nan]], dtype=DOUBLE)
    span = {"prior_std": 80.0, "tolerance": 1e-2}

    def integrated(discriminator: Discriminator, rows: Tensor) -> Tensor:
        stack = CorrectedBatch(BASE, Guidance(discriminator), weights, owner[rows])
        return ode_log_likelihood(
            lambda x, sigma, index: stack.select(index).with_divergence(x, sigma),
            x.repeat(2, 1)[rows],
            (0.01, 80.0),
            breaks=breaks[owner[rows]],
            **span,
        ).log_prob

    together = integrated(counted, torch.arange(128))
    assert torch.equal(together[64:], integrated(ORACLE, torch.arange(64, 128)))
    alone = Counted()
    assert torch.equal(together[:64], integrated(alone, torch.arange(64)))
    assert all(bool((levels >= 0.3).all()) for levels in alone.calls)
    assert all(len(levels) % 64 == 0 for levels in counted.calls)


def test_divergences_of_some_rows_are_those_of_all() -> None:
    counted = Counted()
    x = torch.randn(3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=DOUBLE)
    probes = torch.ones(2, 3, 2, dtype=DOUBLE)
    own = guided_denoiser(BASE, counted, ABOVE).with_divergence(x, sigma, probes)
    base = BASE.with_divergence(x, sigma, probes)
    full = guided_denoiser(BASE, ORACLE, ConstantWeight(1.0)).with_divergence(x, sigma, probes)
    for value, without, guided in zip(own, base, full, strict=True):
        assert torch.equal(value[0], without[0])
        torch.testing.assert_close(value[1:], guided[1:])
    assert counted.calls[0].tolist() == [0.5, 2.0]


def test_path_terms_are_computed_inside_the_intervals_of_the_settings() -> None:
    sigma = torch.tensor([[0.1, 0.5], [20.0, 0.2]], dtype=DOUBLE)
    clean = torch.zeros(2, 2, 2, dtype=DOUBLE)
    labels = torch.tensor([[0, 1], [1, 0]])
    batch = Batch(Noised.of(clean, clean + 1, sigma, labels), lambda: clean, None)
    counted = Counted()
    some = Outputs(counted, batch).scaled_gradient_within({(0.3, 1.0), (15.0, 80.0)})
    assert counted.calls[0].tolist() == [0.5, 20.0]
    assert counted.label_calls[0].tolist() == [1, 1]
    outputs = Outputs(counted, batch)
    everywhere = outputs.scaled_gradient_within({None, (0.3, 1.0)})
    inside = torch.tensor([[False, True], [True, False]])
    assert torch.equal(some, everywhere * inside[..., None])
    assert outputs.scaled_gradient_within({(0.3, 1.0)}) is everywhere  # it is known already
    assert len(counted.calls) == 2


def test_a_guided_model_leaves_out_the_calls_too() -> None:
    counted = Counted()
    space = SampleSpace(size=(2,), sigmas=(0.02, 80.0), sigma_data=1.0)
    model = dgray.guide(BASE, SampleDiscriminator(counted, space), 1.0, (0.3, 80.0))
    model.sample(3, num_steps=18)
    assert len(counted.calls) == 27
    model(torch.zeros(2, 2), 0.1)
    model(torch.zeros(2, 2), torch.tensor([0.1, 0.2]))
    assert len(counted.calls) == 27
    model(torch.zeros(2, 2), torch.tensor([0.1, 0.4]))
    assert counted.calls[-1].tolist() == pytest.approx([0.4])

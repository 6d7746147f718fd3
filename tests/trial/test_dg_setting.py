"""Published setting of Kim et al. 2023 (arXiv 2211.17091), expressed by fields of a study.

Their sampler adds weights (w1, w2) times -sigma grad log r to the slopes of Heun's two stages,
(2, 0) as published, at VP times in [0.01, 1].
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dgray.config.evaluation import Evaluate
from dgray.config.reading.load import load_study
from dgray.correction.guidance import guided_denoiser
from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas, log_uniform
from dgray.discriminator.discriminator import Discriminator, Oracle
from dgray.errors import StudyError
from dgray.plan.plan import Setting, Trial, make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem, build_task
from dgray.trial.sampling import stage_weight

TIME_MIN, TIME_MAX = 0.01, 1.0
DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means, DATA.stds * 1.5, DATA.weights)


def vp_time_to_sigma(time: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """Noise over signal of the VP process with linear beta (Song et al. 2021, Eq. 33)."""
    return math.sqrt(math.expm1(beta_min * time + (beta_max - beta_min) * time**2 / 2))


def published_sampler(
    base: Denoiser,
    discriminator: Discriminator,
    x: Tensor,
    sigmas: Tensor,
    weights: tuple[float, float],
) -> Tensor:
    """Heun's method with guided slopes, implemented from the paper."""
    low, high = (sigma_of_time(t) for t in (TIME_MIN, TIME_MAX))

    def slope(x: Tensor, sigma: float, weight: float) -> Tensor:
        level = torch.full_like(x[:, 0], sigma)
        value = (x - base(x, level)) / sigma
        if low <= sigma <= high:
            value = value - weight * sigma * discriminator.gradient(x, level)
        return value

    levels = sigmas.tolist()
    for now, after in pairwise(levels):
        first = slope(x, now, weights[0])
        euler = x + (after - now) * first
        if after > 0:
            first = (first + slope(euler, after, weights[1])) / 2
        x = x + (after - now) * first
    return x


def sigma_of_time(time: float) -> float:
    """Noise level of a time, from alpha^2 = exp(-integral of beta), summed numerically."""
    count = 20_000
    times = (torch.arange(count, dtype=torch.float64) + 0.5) * time / count
    integral = float((0.1 + times * (20 - 0.1)).sum()) * time / count
    alpha = math.exp(-integral / 2)
    return math.sqrt(1 - alpha**2) / alpha


@pytest.mark.parametrize("time", [1e-5, 0.01, 0.3, 1.0])
def test_vp_times_are_noise_levels(time: float) -> None:
    assert vp_time_to_sigma(time) == pytest.approx(sigma_of_time(time), rel=1e-6)


def test_published_times_give_the_published_interval() -> None:
    assert vp_time_to_sigma(TIME_MIN) == pytest.approx(0.0447, abs=5e-5)
    assert vp_time_to_sigma(TIME_MAX) == pytest.approx(152.2, abs=0.05)


@pytest.mark.parametrize(("num_steps", "guided"), [(18, 15), (40, 33)])
def test_number_of_guided_steps(num_steps: int, guided: int) -> None:
    sigmas = karras_sigmas(num_steps, 0.002, 80.0)[:-1]
    weight = stage_weight(setting(num_steps, "predictor"), {})
    assert int((weight(sigmas) != 0).sum()) == guided
    assert set(weight(sigmas).tolist()) == {0.0, 2.0}


def setting(num_steps: int, stage: str) -> Setting:
    """Setting from fields of a study file."""
    low, high = (round(vp_time_to_sigma(t), 4) for t in (TIME_MIN, TIME_MAX))
    evaluate = Evaluate.model_validate(
        {
            "guidance_weight": 2.0 if stage == "predictor" else 1.0,
            "guidance_interval": (low, high),
            "guided_stage": stage,
            "num_steps": num_steps,
        }
    )
    (weight,), (steps,), (interval,) = (
        evaluate.guidance_weight,
        evaluate.num_steps,
        evaluate.guidance_interval,
    )
    assert not isinstance(weight, str)
    return Setting(
        guidance_weight=weight,
        sampler="ode",
        num_steps=steps,
        interval=interval,
        guided_stage=evaluate.guided_stage[0],
    )


@pytest.mark.parametrize(("stage", "weights"), [("predictor", (2.0, 0.0)), ("both", (1.0, 1.0))])
@pytest.mark.parametrize("num_steps", [18, 40])
def test_the_published_sampler_is_a_setting_of_a_study(
    stage: str, weights: tuple[float, float], num_steps: int
) -> None:
    oracle = Oracle(DATA, BASE)
    sigmas = karras_sigmas(num_steps, 0.002, 80.0)
    x = 80 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guided = guided_denoiser(BASE, oracle, stage_weight(setting(num_steps, stage), {}))
    corrector = BASE if stage == "predictor" else None
    samples = heun(guided, x, sigmas, corrector=corrector)
    torch.testing.assert_close(samples, published_sampler(BASE, oracle, x, sigmas, weights))
    assert not torch.allclose(samples, heun(BASE, x, sigmas), atol=1e-3)


def test_the_interval_applies_to_each_sample_alone() -> None:
    weight = stage_weight(setting(18, "predictor"), {})
    guided = guided_denoiser(BASE, Oracle(DATA, BASE), weight)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = torch.tensor([0.002, 0.05, 10.0, 200.0], dtype=torch.float64)
    changed = (guided(x, sigma) != BASE(x, sigma)).any(-1)
    assert changed.tolist() == [False, True, True, False]
    alone = torch.cat([guided(x[i : i + 1], sigma[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(guided(x, sigma), alone)


def test_the_published_noise_law_is_log_uniform() -> None:
    """Times of density g(t)^2 / (1 - alpha(t)^2) from 1e-5 on; measured: [0.00104, 152.2]."""
    edges = torch.logspace(-5, 0, 100_001, dtype=torch.float64)
    times = (edges[1:] + edges[:-1]) / 2
    integral = 0.1 * times + 19.9 * times**2 / 2
    density = (0.1 + 19.9 * times) / -torch.expm1(-integral)
    mass = density * edges.diff()
    cumulative = mass.cumsum(0) / mass.sum()
    sigma = torch.tensor([vp_time_to_sigma(float(t)) for t in edges[1::500]]).double()
    uniform = (sigma.log() - math.log(0.00104)) / math.log(152.2 / 0.00104)
    assert float((cumulative[::500] - uniform.clamp(0, 1)).abs().max()) < 0.005
    ours = log_uniform(torch.linspace(0, 1, 100_001, dtype=torch.float64), 0.00104, 152.2)
    shares = [float(s) for s in ((ours < 0.0447).double().mean(), (ours > 80).double().mean())]
    assert shares == pytest.approx([0.316, 0.054], abs=5e-4)
    assert float((ours > 10).double().mean()) == pytest.approx(0.229, abs=5e-4)


DG_STUDY = """
name: dg
diffusion: {sigma_min: 0.002, sigma_max: 80}
data: {kind: mixture, name: ring8, num_real: 20, num_validation: 20, num_held_out: 20}
base: {kind: wrong_mixture, std_scale: 1.5, num_generated: 20}
discriminator: {width: 4, depth: 1}
fit: {noise: {low: 0.00104, high: 152.2}, epochs: 1}
evaluate: {num_points: 20}
"""


def dg_trial(folder: Path, *overrides: str) -> Trial:
    path = folder / "dg.yaml"
    path.write_text(DG_STUDY)
    return make_plan(load_study(path, overrides)).trials[1]


def test_the_published_noise_law_is_a_field_of_a_study(tmp_path: Path) -> None:
    """It is wider than the noise levels of the published sampler, [0.002, 80]."""
    config = dg_trial(tmp_path).config
    problem = build_problem(config, Shared({}), torch.device("cpu"))
    sigma = build_task(config, problem, range(1)).draw_sigma(torch.Generator(), 100_000)
    assert float(sigma.min()) == pytest.approx(0.00104, rel=1e-3)
    assert float(sigma.max()) == pytest.approx(152.2, rel=1e-3)
    shares = [float(s) for s in ((sigma < 0.0447).double().mean(), (sigma > 80).double().mean())]
    assert shares == pytest.approx([0.316, 0.054], abs=5e-3)


@pytest.mark.parametrize("field", ["low=80", "low=1000", "high=0.002"])
def test_noise_levels_apart_from_those_of_the_diffusion_are_refused(
    tmp_path: Path, field: str
) -> None:
    name = "high" if field.startswith("low") else "low"
    with pytest.raises(StudyError, match="must overlap the noise levels"):
        dg_trial(tmp_path, f"fit.noise.{field}", f"fit.noise.{name}=null")

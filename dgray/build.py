"""From configuration to objects: the only table from names in a study file to code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from dgray.artifact_keys import base_key, generated_key
from dgray.config.data import Components, MixtureData, TrainedBase, WrongMixture
from dgray.config.study import StudyConfig
from dgray.config.training import Fit, Noise
from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_normal, log_uniform
from dgray.discriminator.discriminator import Discriminator, Oracle, Oscillating, Silent
from dgray.discriminator.mlp import Mlp, MlpShape, initialise
from dgray.discriminator.objective import CrossEntropy, Kl, Mixed, Objective, edm_weighting
from dgray.fit_base import load_base


@dataclass(frozen=True)
class Problem:
    """The data, the base that is wrong about it, and samples of both; float64 on one device.

    Attributes:
        config: what it was built from (seed, splits, noise range).
        data: the exact law of the data.
        base: the denoiser to be guided.
        base_mixture: the exact law of the base; None if it was trained.
        sigma_data: scale of the data, for preconditioning.
        prior_std: standard deviation of the samplers' start.
        pool: samples a trained base generated, by split; None if they are drawn exactly.
        device: where tensors live.
    """

    config: StudyConfig
    data: GaussianMixture
    base: Denoiser
    base_mixture: GaussianMixture | None
    sigma_data: float
    prior_std: float
    pool: Mapping[str, Tensor] | None
    device: torch.device

    def real(self, split: str, count: int) -> Tensor:
        """Samples of the data, a function of the study's seed and the split's name; (count, d)."""
        return self.data.sample(count, named_generator(self.config.seed, "real", split))

    def generated(self, split: str, count: int) -> Tensor:
        """Samples of the base, likewise."""
        if self.pool is not None:
            return self.pool[split][:count]
        assert self.base_mixture is not None
        generator = named_generator(self.config.seed, "generated", split)
        return self.base_mixture.sample(count, generator)

    @property
    def span(self) -> tuple[float, float]:
        """(sigma_min, sigma_max)."""
        return self.config.diffusion.sigma_min, self.config.diffusion.sigma_max


def training_split(replicate: int) -> str:
    """Name of a replicate's own training split."""
    return f"training-{replicate}"


def build_device(config: StudyConfig) -> torch.device:
    """The device a trial computes on."""
    resources = config.resources
    if resources.device != "auto":
        return torch.device(resources.device)
    return torch.device("cuda" if resources.gpus_per_trial > 0 else "cpu")


def build_problem(
    config: StudyConfig, artifacts: Mapping[str, bytes], device: torch.device
) -> Problem:
    """Data, base and their samples; ``artifacts`` must hold those of a trained base."""
    data = build_data(config.data)
    sigma_data = config.diffusion.sigma_data or data.std
    data = data.to(device, torch.float64)
    prior_std = config.diffusion.prior_std or config.diffusion.sigma_max
    if isinstance(config.base, TrainedBase):
        base = load_base(config.base, artifacts[base_key(config)], sigma_data, device)
        key = generated_key(config)
        pool = None
        if key in artifacts:
            pool = {k: v.to(device) for k, v in safetensors.torch.load(artifacts[key]).items()}
        return Problem(config, data, base, None, sigma_data, prior_std, pool, device)
    wrong = build_wrong_mixture(config.base, config.data).to(device, torch.float64)
    return Problem(config, data, wrong, wrong, sigma_data, prior_std, None, device)


def likelihood_points(problem: Problem) -> Tensor:
    """Held-out points at sigma_min from which log-likelihoods are integrated, (num_points, d)."""
    config = problem.config
    clean = problem.real("held_out", config.data.num_held_out)[: config.evaluate.num_points]
    generator = named_generator(config.seed, "noise", "likelihood")
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
    return clean + problem.span[0] * noise


def build_data(config: MixtureData) -> GaussianMixture:
    """The data's law, float64 on the CPU."""
    if config.components is not None:
        return build_components(config.components)
    assert config.name is not None
    return NAMED[config.name]()


def build_components(config: Components) -> GaussianMixture:
    """A mixture that was written out."""
    means = torch.tensor(config.means, dtype=torch.float64)
    stds = torch.tensor(config.stds, dtype=torch.float64)[:, None].expand_as(means).clone()
    weights = torch.tensor(config.weights or (1.0,) * len(means), dtype=torch.float64)
    return GaussianMixture(means, stds, weights / weights.sum())


def build_wrong_mixture(config: WrongMixture, data: MixtureData) -> GaussianMixture:
    """The base's law: a mixture with the stated errors."""
    if config.components is not None:
        return build_components(config.components)
    right = NAMED[config.of]() if config.of is not None else build_data(data)
    shift = torch.tensor(config.mean_shift, dtype=torch.float64)
    count = len(right.weights)
    slope = torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1)
    weights = right.weights * (1 + config.weight_slope * slope)
    return GaussianMixture(
        right.means * config.mean_scale + shift,
        right.stds * config.std_scale,
        weights / weights.sum(),
    )


def build_control(objective: str, problem: Problem) -> Discriminator:
    """A discriminator that is not trained: base (silent), oracle or oscillating."""
    if objective == "base":
        return Silent()
    if problem.base_mixture is None:
        raise ValueError(f"{objective} needs a base of known density, but this one was trained")
    oracle = Oracle(problem.data, problem.base_mixture)
    if objective == "oracle":
        return oracle
    oscillation = problem.config.fit.oscillation
    return Oscillating(oracle, oscillation.amplitude, oscillation.frequency)


def build_discriminator(problem: Problem, replicates: Sequence[int]) -> Mlp:
    """A fresh ensemble on the problem's device, one member a replicate."""
    config = problem.config
    shape = MlpShape(
        dimension=problem.data.dimension,
        width=config.discriminator.width,
        depth=config.discriminator.depth,
        activation=config.discriminator.activation,
    )
    generators = [named_generator(config.seed, "initial", r) for r in replicates]
    mlp = initialise(shape, problem.sigma_data, generators)
    return mlp.with_tensors([t.to(problem.device) for t in mlp.tensors])


def build_objective(fit: Fit) -> Objective:
    """What is minimised in training."""
    if fit.objective == "kl":
        return Kl()
    if fit.objective == "mixed":
        return Mixed(fit.gamma)
    return CrossEntropy(fit.gradient_penalty)


def build_noise_law(
    noise: Noise, span: tuple[float, float]
) -> Callable[[torch.Generator, int], Tensor]:
    """Draws of training noise levels, shape (count,), float32 on the CPU."""
    if noise.law == "log_normal":
        return lambda g, n: log_normal(torch.randn(n, generator=g), noise.log_mean, noise.log_std)
    low, high = noise.low or span[0], noise.high or span[1]
    return lambda g, n: log_uniform(torch.rand(n, generator=g), low, high)


def build_weighting(fit: Fit, sigma_data: float) -> Callable[[Tensor], Tensor]:
    """Factor on the loss at each noise level."""
    if fit.weighting == "edm":
        return lambda sigma: edm_weighting(sigma, sigma_data)
    return torch.ones_like

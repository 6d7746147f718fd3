"""From configuration to objects: the only table from names in a study file to code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import safetensors.torch
import torch
from torch import Tensor

from dgray.base.fit import load_base
from dgray.config.base import WrongMixture
from dgray.config.data import Components, MixtureData
from dgray.config.study import StudyConfig
from dgray.config.training import ConvDiscriminator, Fit, MlpDiscriminator, Noise
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_normal, log_uniform
from dgray.discriminator.discriminator import (
    Discriminator,
    Ensemble,
    Oracle,
    Oscillating,
    ZeroDiscriminator,
)
from dgray.discriminator.fit import TrainingSchedule
from dgray.discriminator.mlp import MlpShape, initialise
from dgray.discriminator.objective import CrossEntropy, Kl, Mixed, Objective, edm_weighting
from dgray.plan.shared_keys import base_key, generated_key
from dgray.problem.images import build_conv, build_image_problem
from dgray.problem.problem import Drawn, Pool, Problem, Samples


def build_device(config: StudyConfig) -> torch.device:
    """The device a trial computes on."""
    resources = config.resources
    if resources.device != "auto":
        return torch.device(resources.device)
    return torch.device("cuda" if resources.gpus_per_trial > 0 else "cpu")


def build_problem(
    config: StudyConfig, artifacts: Mapping[str, bytes], device: torch.device
) -> Problem:
    """Data, base and their samples; ``artifacts`` must hold those of images and trained bases."""
    if not isinstance(config.data, MixtureData):
        return build_image_problem(config, artifacts, device)
    law = build_data(config.data)
    sigma_data = config.diffusion.sigma_data or law.std
    law = law.to(device, torch.float64)
    prior_std = config.diffusion.prior_std or config.diffusion.sigma_max
    wrong: GaussianMixture | None = None
    generated: Samples | None = None
    if isinstance(config.base, WrongMixture):
        wrong = build_wrong_mixture(config.base, config.data).to(device, torch.float64)
        generated = Drawn(wrong, config.seed, "generated")
    elif generated_key(config) in artifacts:
        pool = safetensors.torch.load(artifacts[generated_key(config)])
        generated = Pool({split: points.to(device) for split, points in pool.items()})
    return Problem(
        config=config,
        law=law,
        base=wrong or load_base(artifacts[base_key(config)], device),
        base_mixture=wrong,
        sigma_data=sigma_data,
        prior_std=prior_std,
        real_samples=Drawn(law, config.seed, "real"),
        generated_samples=generated,
        device=device,
        dimension=law.dimension,
    )


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
        return ZeroDiscriminator()
    if problem.base_mixture is None:
        raise ValueError(f"{objective} needs a base of known density, but this one was trained")
    assert problem.law is not None
    oracle = Oracle(problem.law, problem.base_mixture)
    if objective == "oracle":
        return oracle
    oscillation = problem.config.fit.oscillation
    return Oscillating(oracle, oscillation.amplitude, oscillation.frequency)


def build_discriminator(problem: Problem, replicates: Sequence[int]) -> Ensemble:
    """A fresh ensemble on the problem's device, one member a replicate."""
    seed, network = problem.config.seed, problem.config.discriminator
    generators = [named_generator(seed, "initial", r) for r in replicates]
    ensemble: Ensemble
    if isinstance(network, MlpDiscriminator):
        ensemble = initialise(
            MlpShape(
                dimension=problem.dimension,
                width=network.width,
                depth=network.depth,
                activation=network.activation,
            ),
            problem.sigma_data,
            generators,
        )
    else:
        assert isinstance(network, ConvDiscriminator)
        ensemble = build_conv(problem, network, generators)
    return ensemble.with_tensors([t.to(problem.device) for t in ensemble.tensors])


def build_training_schedule(fit: Fit) -> TrainingSchedule:
    """Return the training schedule of a configuration."""
    return TrainingSchedule(
        epochs=fit.epochs,
        checkpoints=fit.checkpoint_epochs,
        batch_size=fit.batch_size,
        learning_rate=fit.learning_rate,
        is_cosine=fit.learning_rate_decay == "cosine",
        dropout=fit.dropout,
        patience=fit.patience,
        validate_every=fit.validate_every,
    )


def build_objective(fit: Fit) -> Objective:
    """What is minimised in training."""
    if fit.objective.name == "kl":
        return Kl()
    if fit.objective.name == "mixed":
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

"""What every trial shares and nobody should compute twice: bytes named by where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from dgray.artifact_keys import base_key, generated_key, likelihood_key
from dgray.build import (
    Problem,
    build_data,
    build_problem,
    likelihood_points,
    training_split,
)
from dgray.config.data import TrainedBase
from dgray.config.study import StudyConfig
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.fit_base import fit_base
from dgray.plan import Trial

Compute = Callable[[StudyConfig, Mapping[str, bytes]], bytes]


class Store(Protocol):
    """Where artifacts are kept between runs."""

    def read_artifact(self, key: str) -> bytes | None:
        """The artifact, or None."""
        ...

    def write_artifact(self, key: str, content: bytes) -> None:
        """Keep it."""
        ...


def build_artifacts(trials: Iterable[Trial], store: Store) -> dict[str, bytes]:
    """Everything these trials need, from the store where it is there, else computed and kept.

    Computed on the CPU with the trials' own thread setting, so that the bytes do not depend on who
    computes them.
    """
    made: dict[str, bytes] = {}
    for trial in trials:
        config = trial.config
        torch.set_num_threads(config.resources.cpus_per_trial)
        if isinstance(config.base, TrainedBase):
            _ensure(made, store, base_key(config), _fit_base, config)
            _ensure(made, store, generated_key(config), _generate, config)
        if "kl" in config.evaluate.metrics:
            _ensure(made, store, likelihood_key(config), _base_likelihood, config)
    return made


def _ensure(
    made: dict[str, bytes], store: Store, key: str, compute: Compute, config: StudyConfig
) -> None:
    if key in made:
        return
    content = store.read_artifact(key)
    if content is None:
        content = compute(config, made)
        store.write_artifact(key, content)
    made[key] = content


def _fit_base(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    del made
    assert isinstance(config.base, TrainedBase)
    data = build_data(config.data)
    real = data.sample(config.base.num_real, named_generator(config.seed, "real", "base"))
    return fit_base(config.base, real, config.diffusion.sigma_data or data.std, config.seed)


def _generate(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    problem = build_problem(config, made, torch.device("cpu"))
    assert isinstance(config.base, TrainedBase)
    diffusion = config.diffusion
    sigmas = karras_sigmas(
        config.base.generation_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
    )
    counts = {"validation": config.data.num_validation, "held_out": config.data.num_held_out}
    for replicate in range(config.replicates):
        counts[training_split(replicate)] = config.base.num_generated
    return safetensors.torch.save(
        {split: _samples(problem, count, sigmas, split) for split, count in counts.items()}
    )


@torch.no_grad()
def _samples(problem: Problem, count: int, sigmas: Tensor, split: str) -> Tensor:
    """Heun samples of the base, shape (count, d)."""
    generator = named_generator(problem.config.seed, "generated", split)
    shape = (count, problem.data.dimension)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return heun(problem.base, problem.prior_std * noise, sigmas)


def _base_likelihood(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    problem = build_problem(config, made, torch.device("cpu"))
    flow = ode_log_likelihood(
        lambda x, sigma, index: problem.base.with_divergence(x, sigma),
        likelihood_points(problem),
        problem.span,
        prior_std=problem.prior_std,
        tolerance=config.evaluate.tolerance,
        max_steps=config.evaluate.max_steps,
    )
    return safetensors.torch.save({"log_prob": flow.log_prob, "converged": flow.converged})

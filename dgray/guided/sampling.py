"""Samples of a guided denoiser, from the noise of a study's samplers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dgray.catalogue import SAMPLERS
from dgray.config.evaluation import Evaluate
from dgray.config.parts import option_arguments
from dgray.correction.acting import ActingDenoiser
from dgray.correction.correction import Correction
from dgray.correction.weight import ScaledWeight
from dgray.diffusion.noise import philox_noise, seeded_noise
from dgray.diffusion.sampler import Sampler, sampler_sigmas
from dgray.errors import GuidedModelError, one_line
from dgray.guided.arguments import checked_integer
from dgray.guided.space import SampleSpace

RHO = 7.0  # spacing of noise levels (Karras et al. 2022, Table 1)
NUM_STEPS = 32


@dataclass(frozen=True)
class Sampling:
    """Settings with which a guided denoiser draws samples.

    Attributes:
        sampler: name in the catalogue, or a function (``dgray.diffusion.sampler.Sampler``).
        options: keyword arguments of the sampler.
        num_steps: number of steps.
        rho: spacing of noise levels.
        prior_std: standard deviation of the start at sigma_max; None: sigma_max.
        seed: seed of all noise, to which that of each sample is added.
        guided_stage: ``both``, or ``predictor``: only the first stage, with twice the weight.
    """

    sampler: str | Sampler = "ode"
    options: dict[str, Any] = field(default_factory=dict)
    num_steps: int = NUM_STEPS
    rho: float = RHO
    prior_std: float | None = None
    seed: int = 0
    guided_stage: Literal["both", "predictor"] = "both"


def sample_seeds(n: int, seeds: int | Sequence[int]) -> list[int]:
    """Return the seed of each of n samples.

    Raises:
        GuidedModelError: their number is another, or one is negative.
    """
    count = checked_integer("n", n)
    numbers = _integers(seeds, count)
    if count < 1 or len(numbers) != count or min(numbers) < 0:
        raise GuidedModelError(
            "there must be at least one sample, and seeds must be one number >= 0, or one for "
            f"each of the {count} samples, but got {one_line(str(seeds), 60)}"
        )
    return numbers


def _integers(seeds: object, count: int) -> list[int]:
    """Return seeds from a first one on, or those of a sequence; none if they are no integers."""
    try:
        first = operator.index(seeds)  # type: ignore[arg-type]
        return [first + i for i in range(count)]
    except TypeError:
        try:
            return [operator.index(seed) for seed in seeds]  # type: ignore[attr-defined]
        except TypeError:
            return []


@torch.no_grad()
def draw(
    guided: ActingDenoiser[Correction],
    space: SampleSpace,
    sampling: Sampling,
    seeds: Sequence[int],
) -> Tensor:
    """Draw the sample of each seed, float64 (n, d); ``guided`` is bound to their labels."""
    name = sampling.sampler
    spec = None
    if isinstance(name, str):
        if name not in SAMPLERS:
            raise GuidedModelError(
                f"there is no sampler {name!r}; give sampler=function, or one of "
                f"{', '.join(SAMPLERS.names)}"
            )
        spec = SAMPLERS[name]
    elif not callable(name):
        raise GuidedModelError(
            f"sampler must be a name or a function, but got {one_line(repr(name), 60)}"
        )
    function: Sampler = spec.load() if spec is not None else name  # type: ignore[assignment]
    sigmas = sampler_sigmas(guided.base, sampling.num_steps, space.sigmas, sampling.rho)
    noise = philox_noise if space.is_image else seeded_noise
    defaults = {} if spec is None else option_arguments(Evaluate(), spec.options)
    options, first_stage = defaults | sampling.options, guided
    count = sampling.num_steps if spec is None else spec.num_draws(sampling.num_steps, options)
    start = noise(sampling.seed, seeds, (1, space.dimension), "start")[:, 0]
    steps = noise(sampling.seed, seeds, (count, space.dimension), "steps").transpose(0, 1)
    first = (sampling.prior_std or space.sigmas[1]) * (float(sigmas[0]) / space.sigmas[1])
    if sampling.guided_stage == "predictor":
        first_stage = replace(guided, weight=ScaledWeight(guided.weight, 2.0))
        options["corrector"] = guided.base
    start, steps = start.to(space.device), steps.to(space.device)
    return function(first_stage, first * start, sigmas, steps, **options)


def drawn_labels(space: SampleSpace, seed: int, seeds: Sequence[int]) -> Tensor:
    """Return the class of the sample of each seed: uniform, and a function of the seed alone."""
    normal = philox_noise(seed, seeds, (1,), "label")[:, 0]
    share = torch.special.ndtr(normal)  # uniform in [0, 1]
    drawn: Tensor = (share * space.num_classes).long().clamp(max=space.num_classes - 1)
    return drawn.to(space.device)

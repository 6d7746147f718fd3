"""Scores of a corrected model on the user's own samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dgray.correction.acting import ActingDenoiser
from dgray.correction.correction import Correction
from dgray.correction.linear import acting_change
from dgray.data.images import to_unit
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import stratified
from dgray.discriminator.objective import Noised, denoising_residual
from dgray.errors import GuidedModelError, one_line
from dgray.guided.arguments import (
    TensorLike,
    check_scaled,
    checked_integer,
    checked_number,
    checked_seed,
    tensor_of,
)
from dgray.guided.space import SampleSpace
from dgray.metrics.estimate import GROUPS, Estimate, group_estimate, group_of
from dgray.metrics.frechet import Array
from dgray.metrics.frechet import frechet_distance as distance_of_moments

MAX_EXACT_DIMENSION = 64  # above, the divergence is estimated with probes


@torch.no_grad()
def path_kl_change(
    bound: Callable[[Tensor | None], ActingDenoiser[Correction]],
    space: SampleSpace,
    samples: tuple[Tensor, Tensor | None],
    *,
    num_levels: int,
    seed: int,
) -> Estimate:
    """Estimate the change of the path KL by a correction (Girsanov, see ``dgray.metrics.path``).

    Args:
        bound: returns the guided denoiser bound to labels of the shape of sigma.
        space: space of the samples.
        samples: vectors, float64 (n, d), and their classes.
        num_levels: stratified noise levels per sample.
        seed: seed of noise levels and noise.
    """
    clean, labels = samples
    seed = checked_seed(seed)
    _check_samples(clean)
    num_levels = checked_integer("num_levels", num_levels, lowest=1)
    low, high = space.sigmas
    generator = named_generator(seed, "path KL")
    uniform = torch.rand(len(clean), num_levels, generator=generator, dtype=torch.float64)
    sigma = stratified(uniform, low, high).to(clean)
    shape = (*sigma.shape, clean.shape[1])
    noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(clean)
    real = Noised.of(clean[:, None].expand(shape), noise, sigma)
    classes = None if labels is None else labels[:, None].expand(sigma.shape)
    guided = bound(classes)
    residual = denoising_residual(guided.base, real)
    acts, pull = guided.weight(sigma) != 0, torch.zeros_like(real.x)
    acting = bound(None if classes is None else classes[acts])
    pull[acts] = sigma[acts][:, None] * acting_change(acting, real.x[acts], sigma[acts])
    change = (pull * (2 * residual + pull)).sum(-1)  # |residual + pull|^2 - |residual|^2
    return Estimate.of(math.log(high / low) * change.mean(1))


def nll(
    bound: Callable[[Tensor | None], ActingDenoiser[Correction]],
    space: SampleSpace,
    samples: tuple[Tensor, Tensor | None],
    *,
    prior_std: float,
    num_probes: int | None,
    tolerance: float,
    seed: int,
) -> Estimate:
    """Estimate the negative log-likelihood of samples; see ``GuidedDenoiser.nll``."""
    x, labels = samples
    seed = checked_seed(seed)
    points = space.clean(x)
    _check_samples(points)
    if not 0 < checked_number("tolerance", tolerance) < math.inf:
        raise GuidedModelError(f"tolerance must be a number of nats > 0, but got {tolerance}")
    if x.dtype == torch.uint8:  # Theis et al. 2016, arXiv 1511.01844
        generator = named_generator(seed, "dequantisation")
        within = torch.rand(points.shape, generator=generator, dtype=torch.float64)
        points = points + (within.to(points) - 0.5) / 127.5
    if num_probes is None and space.dimension <= MAX_EXACT_DIMENSION:
        probes = None
    else:
        count = 1 if num_probes is None else checked_integer("num_probes", num_probes, lowest=1)
        probes = _probes(count, points, seed)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        denoiser = bound(None if labels is None else labels.to(index.device)[index])
        return denoiser.with_divergence(x, sigma, None if probes is None else probes[:, index])

    likelihood = ode_log_likelihood(
        field,
        points,
        space.sigmas,
        prior_std=prior_std,
        tolerance=tolerance,
        breaks=bound(None).weight.breaks,
    )
    if not bool(likelihood.converged.all()):
        share = 1 - float(likelihood.converged.double().mean())
        raise GuidedModelError(
            f"the likelihood of {share:.0%} of the samples did not converge; raise tolerance, "
            "lower the guidance weight, or fit the discriminator for fewer epochs"
        )
    return Estimate.of(-likelihood.log_prob)


def _check_samples(points: Tensor) -> None:
    if not len(points):
        raise GuidedModelError("there must be at least one sample, but got none")
    if not bool(points.isfinite().all()):
        raise GuidedModelError("samples must be finite, but some values are NaN or infinite")


def _probes(count: int, points: Tensor, seed: int) -> Tensor:
    """Return probes that a point keeps along its path and in every model, (P, n, d)."""
    generator = named_generator(seed, "probes")
    signs = torch.randint(2, (count, *points.shape), generator=generator, dtype=torch.int8)
    return (2 * signs - 1).to(points.device, torch.float32)


def frechet_distance(
    samples: TensorLike,
    reference: TensorLike,
    features: Callable[[Tensor], TensorLike] | None = None,
) -> Estimate:
    """Estimate the Fréchet distance of two sets of samples, with an error over the first.

    It is biased upwards by a term of order 1/n: compare at equal n.

    Args:
        samples: generated samples, shape ``(n, *size)``; bytes are scaled to [-1, 1].
        reference: samples of the data, shape ``(m, *size)``; likewise.
        features: maps samples, scaled where they are bytes, to features (n, f), of torch or NumPy;
            None: their own values.

    Raises:
        GuidedModelError: the samples have different shapes, a set has fewer than two or values
            that are not finite, or images without ``features`` are pixels that are not scaled.
    """
    extract = _own_values if features is None else features
    if not callable(extract):
        raise GuidedModelError(
            f"features must be a function of samples, but got {one_line(repr(features), 60)}"
        )
    sets = _scaled(samples), _scaled(reference)
    size, other_size = (tuple(x.shape[1:]) for x in sets)
    if size != other_size:
        raise GuidedModelError(
            "samples of both sets must have the same shape, but those of samples have shape "
            f"{size} and those of reference {other_size}; reshape one set"
        )
    counts = [len(x) for x in sets]
    if min(counts) < 2:
        raise GuidedModelError(
            f"a Fréchet distance needs at least 2 samples on each side, but got {counts[0]} and "
            f"{counts[1]}"
        )
    own, other = (torch.as_tensor(extract(x)).detach().reshape(len(x), -1).double() for x in sets)
    if not bool(own.isfinite().all() and other.isfinite().all()):
        name = "samples" if features is None else "features"
        raise GuidedModelError(f"{name} must be finite, but some values are NaN or infinite")
    target = _moments(other)
    value = distance_of_moments(*_moments(own), *target)
    group = group_of(len(own), own.device)
    parts = [own[group != index] for index in range(GROUPS)] if len(own) >= 2 * GROUPS else []
    return group_estimate(value, [distance_of_moments(*_moments(x), *target) for x in parts])


def _own_values(samples: Tensor) -> Tensor:
    check_scaled(samples)
    return samples


def _scaled(samples: TensorLike) -> Tensor:
    """Return samples as a tensor, bytes scaled to [-1, 1]."""
    tensor = tensor_of("samples", samples)
    if not tensor.ndim:
        raise GuidedModelError("samples must have shape (n, ...), but got one number")
    return to_unit(tensor) if tensor.dtype == torch.uint8 else tensor


def _moments(x: Tensor) -> tuple[Array, Array]:
    return x.mean(0).cpu().numpy(), torch.cov(x.T).reshape(x.shape[1], -1).cpu().numpy()

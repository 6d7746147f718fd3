"""Guided denoiser of samples in their own shape."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dgray.correction.acting import ActingDenoiser
from dgray.correction.correction import Correction, DiscriminatorCorrection
from dgray.correction.guidance import Guidance
from dgray.correction.weight import ConstantWeight, IntervalWeight, Weight, in_noise_range
from dgray.data.images import to_unit
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.sampler import Sampler, rounded_span
from dgray.discriminator.discriminator import Discriminator
from dgray.errors import GuidedModelError, one_line
from dgray.guided.arguments import (
    Labels,
    Levels,
    TensorLike,
    checked_integer,
    checked_number,
    checked_pair,
    like,
    tensor_of,
)
from dgray.guided.description import Description
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.sampling import Sampling, draw, drawn_labels, sample_seeds
from dgray.guided.scores import nll, path_kl_change
from dgray.guided.space import SampleSpace
from dgray.guided.user_denoiser import wrap_denoiser
from dgray.metrics.estimate import Estimate


@dataclass(frozen=True)
class GuidedDenoiser:
    r"""Base with a correction at a weight, of samples in their own shape, for any sampling loop.

    With guidance, D_w(x; sigma) = D + w sigma^2 grad d. Outside the noise range of the training,
    the weight is 0.

    Attributes:
        base: base, of vectors.
        correction: its correction, of vectors.
        weight: guidance weight as a function of the noise level; the average over a step.
        space: space of the samples.
        sampling: settings of ``sample``.
        description: how the model is built, if it can be stored.
    """

    base: Denoiser = field(repr=False)
    correction: Correction = field(repr=False)
    weight: Weight
    space: SampleSpace
    sampling: Sampling = field(default_factory=Sampling)
    description: Description | None = field(default=None, repr=False)

    @property
    def discriminator(self) -> Discriminator:
        """Discriminator of vectors, from which the correction is made.

        Raises:
            GuidedModelError: the correction is made from none.
        """
        if not isinstance(self.correction, DiscriminatorCorrection):
            raise GuidedModelError(
                f"a {type(self.correction).__name__} has no discriminator; choose a model with "
                "guidance"
            )
        return self.correction.discriminator

    def __call__(self, x: TensorLike, sigma: Levels, labels: Labels | None = None) -> Tensor:
        """Denoise.

        Args:
            x: noised points (n, d) or images (n, C, H, W) with values in [-1, 1] where clean.
            sigma: noise level >= 0, a number or shape (n,).
            labels: classes of a conditional model, one or int64 (n,); -1: no class.

        Returns:
            E[clean x | x; sigma] as estimated by the model, of the shape and dtype of x, without
            gradients in x.

        Raises:
            GuidedModelError: a value is invalid.
        """
        x = tensor_of("samples", x)
        flat, levels = self.space.flat(x), self.space.levels(sigma, len(x), with_zero=True)
        guided = self.flat(self._classes(labels, len(x)))
        with torch.no_grad():
            if isinstance(sigma, Real):
                return like(guided.at_level(flat, float(sigma)).reshape(x.shape), x)
            return like(guided(flat, levels).reshape(x.shape), x)

    def __repr__(self) -> str:
        low, high = self.space.sigmas
        kind = "images" if self.space.is_image else "points"
        return (
            f"<dgray.GuidedDenoiser of {kind} {self.space.size}, {type(self.weight).__name__}, "
            f"noise levels {low:g} to {high:g}>"
        )

    def epsilon(self, x: TensorLike, sigma: Levels, labels: Labels | None = None) -> Tensor:
        """Return the predicted noise (x - D(x; sigma)) / sigma, of the shape and dtype of x.

        Bytes are scaled to [-1, 1]; their noise is float32.
        """
        x = tensor_of("samples", x)
        denoised = self(x, sigma, labels)
        x = to_unit(x) if x.dtype == torch.uint8 else x
        levels = self.space.levels(sigma, len(x)).reshape(-1, *[1] * (x.ndim - 1))
        return like((x - denoised) / levels.to(x.device), x)

    def flat(self, labels: TensorLike | None = None) -> ActingDenoiser[Correction]:
        """Return the denoiser of vectors (..., d), bound to labels of the shape of sigma.

        Its correction is not called outside the noise range, where it may be non-finite.
        """
        labels = None if labels is None else torch.as_tensor(labels, device=self.space.device)
        base, correction = with_labels(self.base, labels), with_labels(self.correction, labels)
        weight = in_noise_range(self.weight, *self._span)
        return ActingDenoiser(base, correction, weight, labels, reads_weights=True)

    @cached_property
    def _span(self) -> tuple[float, float]:
        return rounded_span(self.base, self.space.sigmas)  # reads a table of the device

    def _classes(self, labels: Labels | None, count: int) -> Tensor | None:
        return self.space.labels(labels, count, self.base, self.correction)

    def save(self, out: str | os.PathLike[str]) -> Path:
        """Write weights and configuration to a folder, which ``dgray.load_exported`` reads.

        Raises:
            GuidedModelError: the model cannot be stored.
            OutputError: the folder exists and is not empty, or cannot be written.
        """
        from dgray.guided.stored import write_description

        if self.description is None:
            raise GuidedModelError(
                "a trained model can be stored whose correction is one of dgray or of a package, "
                "but this one is a control, or its correction is a Python object; choose another"
            )
        return write_description(Path(out).expanduser(), self.description)

    def with_weight(
        self, weight: float, interval: tuple[float, float] | Literal["same"] | None = "same"
    ) -> GuidedDenoiser:
        """Return the model at another guidance weight.

        Args:
            weight: guidance weight, on the scale of ``evaluate.guidance_weight`` in a study: if
                guidance acts in the predictor stage alone, half of it is the average over a step.
            interval: noise levels (low, high) at which guidance acts; ``"same"``: those of this
                model; None: all.

        Raises:
            GuidedModelError: a value is invalid.
        """
        if isinstance(interval, str) and interval == "same":
            interval = _interval(self.weight)
        scale = 0.5 if self.sampling.guided_stage == "predictor" else 1.0
        acting = scale * checked_number("a guidance weight", weight)
        chosen = _weight(acting, interval)
        description = self.description
        if description is not None:
            description = description.with_weight(acting, _interval(chosen))
        return replace(self, weight=chosen, description=description)

    def sample(
        self,
        n: int,
        *,
        seeds: int | Sequence[int] = 0,
        num_steps: int | None = None,
        sampler: str | Sampler | None = None,
        labels: Labels | None = None,
    ) -> Tensor:
        """Draw samples, each of which depends on its own seed alone.

        Args:
            n: number of samples.
            seeds: seed of the first one, which the others follow, or a seed for each.
            num_steps: number of steps; None: that of ``sampling``.
            sampler: name in the catalogue or a function; None: that of ``sampling``.
            labels: classes, one or int64 (n,); -1: no class; None: drawn uniformly if the model is
                conditional.

        Returns:
            Shape ``(n, *size)``, float32; images have values in about [-1, 1].
        """
        chosen = self.sampling
        if num_steps is not None:
            steps = checked_integer("num_steps", num_steps, lowest=1)
            chosen = replace(chosen, num_steps=steps)
        if sampler is not None:
            chosen = replace(chosen, sampler=sampler, options={}, guided_stage="both")
        numbers = sample_seeds(n, seeds)
        classes = self._classes(labels, len(numbers))
        if classes is None and self.space.num_classes:
            classes = drawn_labels(self.space, chosen.seed, numbers)
        samples = draw(self.flat(classes), self.space, chosen, numbers)
        return samples.reshape(len(numbers), *self.space.size).float()

    def path_kl_change(
        self,
        x: TensorLike,
        labels: Labels | None = None,
        *,
        num_levels: int = 32,
        seed: int = 0,
    ) -> Estimate:
        """Estimate the change of the path KL by the correction on held-out samples, in nats.

        Args:
            x: samples of the data, shape ``(n, *size)``, that no model was fitted to.
            labels: their classes, one or int64 (n,); -1: no class.
            num_levels: stratified noise levels per sample.
            seed: seed of noise levels and noise.
        """
        clean = self.space.clean(x)
        samples = clean, self._classes(labels, len(clean))
        return path_kl_change(self.flat, self.space, samples, num_levels=num_levels, seed=seed)

    def nll(
        self,
        x: TensorLike,
        labels: Labels | None = None,
        *,
        num_probes: int | None = None,
        tolerance: float = 1e-4,
        seed: int = 0,
    ) -> Estimate:
        """Estimate the negative log-likelihood of samples under the probability-flow ODE, in nats.

        Args:
            x: samples, shape ``(n, *size)``; images as bytes are dequantised uniformly.
            labels: their classes, one or int64 (n,); -1: no class.
            num_probes: Hutchinson probes of the divergence; None: the exact divergence of up to
                64 dimensions, otherwise one probe.
            tolerance: numerical error of the log-density of a sample, in nats, > 0.
            seed: seed of dequantisation and probes.
        """
        x = tensor_of("samples", x)
        prior_std = self.sampling.prior_std or self.space.sigmas[1]
        return nll(
            self.flat,
            self.space,
            (x, self._classes(labels, len(self.space.flat(x)))),
            prior_std=prior_std,
            num_probes=num_probes,
            tolerance=tolerance,
            seed=seed,
        )


def guide(
    denoiser: Callable[..., Tensor],
    discriminator: SampleDiscriminator,
    weight: float = 1.0,
    interval: tuple[float, float] | None = None,
) -> GuidedDenoiser:
    """Guide a denoiser by a discriminator.

    Args:
        denoiser: any callable (x, sigma) -> E[x0 | x], see ``wrap_denoiser``.
        discriminator: the correction, from ``fit_discriminator``.
        weight: guidance weight; 0: the denoiser, 1: the exact correction.
        interval: noise levels (low, high) at which guidance acts; None: all.
    """
    if not isinstance(discriminator, SampleDiscriminator):
        raise GuidedModelError(
            "discriminator must be that of fit_discriminator or of a run, but got "
            f"{one_line(repr(discriminator), 60)}"
        )
    space, description, chosen = discriminator.space, None, _weight(weight, interval)
    if discriminator.part is not None:
        described = Description.of(space, discriminator.part)
        description = described.with_weight(float(weight), _interval(chosen))
    return GuidedDenoiser(
        base=wrap_denoiser(denoiser, space.size),
        correction=Guidance(discriminator.inner),
        weight=chosen,
        space=space,
        description=description,
    )


def _interval(weight: Weight) -> tuple[float, float] | None:
    """Return the noise levels at which guidance acts; None: all."""
    return (weight.low, weight.high) if isinstance(weight, IntervalWeight) else None


def _weight(weight: float, interval: tuple[float, float] | None) -> Weight:
    number = checked_number("a guidance weight", weight)
    if not math.isfinite(number):
        raise GuidedModelError(f"a guidance weight must be a finite number, but got {weight}")
    constant = ConstantWeight(number)
    if interval is None:
        return constant
    low, high = checked_pair("interval", interval)
    if not 0 <= low < high:
        raise GuidedModelError(
            f"interval must be (low, high) with 0 <= low < high, but got {interval}"
        )
    return IntervalWeight(constant, low, high)

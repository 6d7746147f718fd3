"""What a study is about, as objects: data, the base that is wrong about it, samples of both.

Points come from exact laws or from a pool that a trained base drew; images come from fixed splits
of a data set. Which samples belong to a split is a function of the study's seed and the split's
name alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dgray.config.data import ImageData
from dgray.config.study import StudyConfig
from dgray.data.images import Shape, to_unit
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator


class Samples(Protocol):
    """Samples of one law, by split; float64 on the problem's device."""

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """The first of the ``count`` samples of a split (all if None), shape (first, d)."""
        ...

    def labels(self, split: str, count: int) -> Tensor | None:
        """Their classes, int64 (count,); None where there are none."""
        ...


MAX_EXACT_DIMENSION = 64  # beyond, the divergence of images is estimated


@dataclass(frozen=True)
class Drawn:
    """Exact draws of a mixture; ``role`` keeps the draws of two laws apart."""

    law: GaussianMixture
    seed: int
    role: str

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """See ``Samples``; a draw of fewer would be another draw, so all are drawn."""
        return self.law.sample(count, named_generator(self.seed, self.role, split))[:first]

    def labels(self, split: str, count: int) -> None:
        """Points have no classes."""


@dataclass(frozen=True)
class Pool:
    """Stored points, shape (n, d), by split."""

    by_split: Mapping[str, Tensor]

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """See ``Samples``."""
        return self.by_split[split][:count][:first]

    def labels(self, split: str, count: int) -> None:
        """Points have no classes."""


@dataclass(frozen=True)
class Images:
    """Stored images: rows of one array of pixels, by split.

    Attributes:
        pixels: uint8, shape (n, d).
        rows: of each split, which of them, int64.
        classes: of each row, int64; None where there are none.
    """

    pixels: Tensor
    rows: Mapping[str, Tensor]
    classes: Tensor | None = None

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """See ``Samples``; in [-1, 1]."""
        return to_unit(self.pixels_of(split, count)[:first], torch.float64)

    def pixels_of(self, split: str, count: int) -> Tensor:
        """The images themselves, uint8 (count, d)."""
        return self.pixels[self.rows[split][:count]]

    def labels(self, split: str, count: int) -> Tensor | None:
        """See ``Samples``."""
        return None if self.classes is None else self.classes[self.rows[split][:count]]


@dataclass(frozen=True)
class Problem:
    """The data, the base that is wrong about it, and samples of both; float64 on one device.

    Attributes:
        config: what it was built from (seed, splits, noise range).
        law: the exact law of the data; None for images.
        base: the denoiser to be guided.
        base_mixture: the exact law of the base; None if it was trained.
        sigma_data: scale of the data, for preconditioning.
        prior_std: standard deviation of the samplers' start.
        real_samples: of the data.
        generated_samples: of the base; None if nothing in the study needs them.
        device: where tensors live.
        dimension: d.
        shape: (channels, height, width) of images; None for points.
        num_classes: of the data, where base or discriminator are class-conditional; else 0.
    """

    config: StudyConfig
    law: GaussianMixture | None
    base: Denoiser
    base_mixture: GaussianMixture | None
    sigma_data: float
    prior_std: float
    real_samples: Samples
    generated_samples: Samples | None
    device: torch.device
    dimension: int
    shape: Shape | None = None
    num_classes: int = 0

    def real(self, split: str, count: int, first: int | None = None) -> Tensor:
        """The first of the ``count`` samples of the data (all if None), shape (first, d)."""
        return self.real_samples.take(split, count, first)

    def real_bytes(self, split: str, count: int) -> Tensor:
        """Images of the data as they are stored, uint8 (count, d)."""
        assert isinstance(self.real_samples, Images)
        return self.real_samples.pixels_of(split, count)

    def generated(self, split: str, count: int, first: int | None = None) -> Tensor:
        """Samples of the base, likewise."""
        return self._generated().take(split, count, first)

    def real_labels(self, split: str, count: int) -> Tensor | None:
        """Classes of the samples of the data; None where no model asks for them."""
        return self.real_samples.labels(split, count) if self.num_classes else None

    def generated_labels(self, split: str, count: int) -> Tensor | None:
        """Classes that the samples of the base were drawn for, likewise."""
        return self._generated().labels(split, count) if self.num_classes else None

    def _generated(self) -> Samples:
        if self.generated_samples is None:
            raise ValueError(
                "generated samples are needed, but the artifacts of this study have none; "
                "set base.num_generated > 0"
            )
        return self.generated_samples

    @property
    def num_real(self) -> int:
        """Training samples of a replicate, mirror images included."""
        data = self.config.data
        return data.num_real * (2 if isinstance(data, ImageData) and data.flip else 1)

    @property
    def span(self) -> tuple[float, float]:
        """(sigma_min, sigma_max)."""
        return self.config.diffusion.sigma_min, self.config.diffusion.sigma_max


def training_split(replicate: int) -> str:
    """Name of a replicate's own training split."""
    return f"training-{replicate}"


def likelihood_points(problem: Problem, split: str = "held_out") -> Tensor:
    """Points of a split from which log-likelihoods are integrated, shape (num_points, d).

    Points are noised to sigma_min; images are dequantised uniformly, so that the bits per
    dimension are those of the literature (Theis et al. 2016, arXiv 1511.01844).
    """
    config = problem.config
    clean = problem.real(split, _split_size(problem, split), config.evaluate.num_points)
    names = () if split == "held_out" else (split,)
    generator = named_generator(config.seed, "noise", "likelihood", *names)
    if problem.shape is not None:
        within = torch.rand(clean.shape, generator=generator, dtype=torch.float64).to(clean)
        return clean + (within - 0.5) / 127.5
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
    return clean + problem.span[0] * noise


def likelihood_labels(problem: Problem, split: str = "held_out") -> Tensor | None:
    """Classes of the points of ``likelihood_points``."""
    labels = problem.real_labels(split, _split_size(problem, split))
    return None if labels is None else labels[: problem.config.evaluate.num_points]


def likelihood_probes(problem: Problem, split: str = "held_out") -> Tensor | None:
    """Signs for Hutchinson's divergence, shape (P, num_points, d); None where it is exact.

    A point keeps its probes along its path and in every model, so that differences are paired.
    """
    config = problem.config
    if problem.shape is None or problem.dimension <= MAX_EXACT_DIMENSION:
        return None
    count = min(config.evaluate.num_points, _split_size(problem, split))
    shape = (config.evaluate.num_probes, count, problem.dimension)
    generator = named_generator(config.seed, "probes")
    signs = torch.randint(2, shape, generator=generator, dtype=torch.int8)
    return (2 * signs - 1).to(problem.device, torch.float32)


def _split_size(problem: Problem, split: str) -> int:
    data = problem.config.data
    return data.num_validation if split == "validation" else data.num_held_out


def stacked(samples: Samples, splits: Sequence[str], count: int) -> tuple[Tensor, Tensor | None]:
    """Training samples of every replicate, float32 (R, count, d), images as bytes; and classes."""
    if isinstance(samples, Images):
        points = torch.stack([samples.pixels_of(split, count) for split in splits])
    else:
        points = torch.stack([samples.take(split, count) for split in splits]).float()
    labels = [samples.labels(split, count) for split in splits]
    known = [each for each in labels if each is not None]
    return points, torch.stack(known) if known else None

"""Data, base and samples of both, as objects: the interface that points and images implement.

Points come from exact distributions, or from a pool that a trained base generated; images come
from fixed splits of a data set. The samples of a split depend on the study's seed and the split's
name alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dgray.data.images import Shape
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.noise import named_generator
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.objective import Batch
from dgray.metrics.estimate import Estimate
from dgray.problem.settings import EvaluationSettings, SplitSizes

Labelled = tuple[Tensor, Tensor | None]  # samples (N, d) and their classes (N,), if any


class Samples(Protocol):
    """Samples of one distribution, by split, on the problem's device."""

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """Return the first of the ``count`` samples of a split, float64, shape (first, d).

        ``first``: None: all of them.
        """
        ...

    def stored(self, split: str, count: int) -> Tensor:
        """Return them as they are trained on: float32 points or uint8 images, (count, d)."""
        ...

    def labels(self, split: str, count: int) -> Tensor | None:
        """Return their classes, int64 (count,); None without classes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """Data, the base to be corrected, and samples of both; float64 on one device.

    Attributes:
        seed: seed of the study.
        span: noise levels (sigma_min, sigma_max).
        sizes: number of samples in each split.
        evaluation: what scoring reads from the study file.
        base: denoiser to be guided.
        sigma_data: scale of the data, for preconditioning.
        prior_std: standard deviation of the samplers' start.
        real_samples: samples of the data.
        generated_samples: samples of the base; None if nothing in the study needs them.
        device: device of all tensors.
        dimension: d.
        num_classes: classes of the data where base or discriminator are conditional; else 0.
        class_weights: probability of each class, (num_classes,); None: equal.
    """

    seed: int
    span: tuple[float, float]
    sizes: SplitSizes
    evaluation: EvaluationSettings
    base: Denoiser
    sigma_data: float
    prior_std: float
    real_samples: Samples
    generated_samples: Samples | None
    device: torch.device
    dimension: int
    num_classes: int = 0
    class_weights: Tensor | None = None

    @property
    @abstractmethod
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None of points."""

    @abstractmethod
    def sample_noise(self, seeds: Sequence[int], shape: tuple[int, ...], purpose: str) -> Tensor:
        """Return noise of samples, float64 (len(seeds), *shape), each from its seed alone."""

    @abstractmethod
    def likelihood_points(self, split: str) -> Tensor:
        """Return points from which log-likelihoods are integrated, shape (num_points, d)."""

    @abstractmethod
    def likelihood_probes(self, split: str) -> Tensor | None:
        """Return Hutchinson probes of these points, (P, num_points, d); None: exact traces."""

    @abstractmethod
    def likelihood_estimates(
        self, points: Tensor, log_prob: Tensor, labels: Tensor | None
    ) -> dict[str, Estimate]:
        """Return columns that follow from a model's log-densities (P,) at points (P, d).

        ``labels``: classes of the points, (P,), if any.
        """

    # The following are those of data whose distribution is unknown.

    @property
    def has_score(self) -> bool:
        """True if the score of the data is known."""
        return False

    def score_gap(self, held_out: Batch) -> Tensor:
        """Return sigma (score of the data - score of the base) on ``held_out.real``, (N, S, d).

        Where the score of the data is unknown, that of each noised sample given its clean one
        takes its place (Vincent 2011). It has the same mean, so changes are unbiased, but levels
        are not.
        """
        return -held_out.residual

    def prior_gap(self, clean: Tensor) -> Tensor | None:
        """Return log p(x_T; sigma_max) - log prior(x_T) of noised samples, (N,), or None."""
        return None

    def log_ratio(self) -> Discriminator | None:
        """Return the exact log-ratio of data and base; None where one of them is unknown."""
        return None

    @abstractmethod
    def shown(self, split: str) -> Tensor:
        """Return the samples of a split of the data that the report shows, shape (k, d)."""

    @abstractmethod
    def generation_batches(self, start: int, stop: int) -> list[range]:
        """Return non-empty batches in which samples ``start`` to ``stop - 1`` are generated."""

    @abstractmethod
    def generation_noise(self, split: str, seeds: range) -> Tensor:
        """Return the start noise of generated samples of a split, float64 (len(seeds), d)."""

    @abstractmethod
    def to_stored(self, samples: Tensor) -> Tensor:
        """Return generated samples in the form in which they are stored."""

    @abstractmethod
    def to_output(self, samples: Tensor) -> Tensor:
        """Return samples for users: points float32 (n, d), images uint8 (n, H, W, C)."""

    def prior_std_at(self, sigma: float) -> float:
        """Return the standard deviation of the start of a sampler that starts at ``sigma``."""
        return self.prior_std * (sigma / self.span[1])

    def real(self, split: str, first: int | None = None) -> Tensor:
        """Return the first samples (all if None) of a split of the data, shape (first, d)."""
        return self.real_samples.take(split, self.sizes.real(split), first)

    def generated(self, split: str, first: int | None = None) -> Tensor:
        """Return the first samples (all if None) of a split of the base, shape (first, d)."""
        return self._generated().take(split, self.sizes.generated(split), first)

    def real_labelled(self, split: str, first: int | None = None) -> Labelled:
        """Return samples of the data and their classes; no classes if no model reads them."""
        labels = None
        if self.num_classes:
            labels = self.real_samples.labels(split, self.sizes.real(split))
        return self.real(split, first), None if labels is None else labels[:first]

    def generated_labelled(self, split: str, first: int | None = None) -> Labelled:
        """Return samples of the base and the classes that they were drawn for, likewise."""
        labels = None
        if self.num_classes:
            labels = self._generated().labels(split, self.sizes.generated(split))
        return self.generated(split, first), None if labels is None else labels[:first]

    def real_stored(self, split: str) -> Tensor:
        """Return the samples of a split of the data as they are trained on."""
        return self.real_samples.stored(split, self.sizes.real(split))

    def likelihood_labels(self, split: str) -> Tensor | None:
        """Return the classes of ``likelihood_points``."""
        return self.real_labelled(split, self.evaluation.num_points)[1]

    def classes(self, uniform: Tensor) -> Tensor:
        """Return a class for each uniform number in [0, 1], int64 of its shape."""
        if self.class_weights is None:
            drawn: Tensor = (uniform * self.num_classes).long()
        else:
            edges = self.class_weights.cumsum(0).to(uniform)
            drawn = torch.searchsorted(edges, uniform, right=True)
        return drawn.clamp(max=self.num_classes - 1)

    def start_noise(self, *names: str | int, shape: torch.Size) -> Tensor:
        """Return named standard normal noise, float64, on the problem's device."""
        generator = named_generator(self.seed, *names)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.device)

    def _generated(self) -> Samples:
        if self.generated_samples is None:
            raise ValueError(
                "generated samples are needed, but the artifacts of this study have none; "
                "set base.num_generated > 0"
            )
        return self.generated_samples


def training_split(replicate: int) -> str:
    """Return the name of a replicate's own training split."""
    return f"training-{replicate}"

"""Gaussian mixtures whose components belong to classes: exact class-conditional laws.

p(x | c; sigma) is the mixture of the components of class c; bound to no labels, the distribution
is that of all components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Conditional, Denoiser, check_labels
from dgray.diffusion.full_mixture import FullGaussianMixture
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors
from dgray.errors import DataError

Mixture = GaussianMixture | FullGaussianMixture


@dataclass(frozen=True)
class ClassMixture(Denoiser, Conditional):
    """Mixture with classes, conditional on the labels that it is bound to.

    Attributes:
        mixture: distribution of all classes.
        classes: class of each component, int64 (K,), each from 0 to the highest at least once.
        labels: class of each row, broadcast to the shape of sigma, -1: any; None: any for all.
    """

    mixture: Mixture
    classes: Int64[Tensor, "K"]
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the classes.

        Raises:
            DataError: if some class has no component, or a component no class.
        """
        present = self.classes.unique().tolist()
        count = len(self.mixture.weights)
        if self.classes.shape != (count,) or present != list(range(len(present))):
            raise DataError(
                f"classes must be those of {count} components, each from 0 to the highest at "
                f"least once, but got {present} of shape {tuple(self.classes.shape)}"
            )

    @property
    @override
    def num_classes(self) -> int:
        return int(self.classes.max()) + 1

    @property
    def class_weights(self) -> Float[Tensor, "C"]:
        """Probability of each class."""
        weights = self.mixture.weights
        totals = weights.new_zeros(self.num_classes)
        return totals.index_add(0, self.classes, weights)

    @property
    def dimension(self) -> int:
        """Number of dimensions d."""
        return self.mixture.dimension

    @property
    def std(self) -> float:
        """Root of the mean variance of a coordinate, of all classes together."""
        return self.mixture.std

    def to(self, device: torch.device | str, dtype: torch.dtype) -> ClassMixture:
        """Return the distribution on a device, in a dtype."""
        labels = None if self.labels is None else self.labels.to(device)
        return ClassMixture(self.mixture.to(device, dtype), self.classes.to(device), labels)

    @override
    def with_labels(self, labels: Labels) -> ClassMixture:
        """Return the distribution bound to labels.

        Raises:
            ValueError: if a label is neither a class nor -1.
        """
        check_labels(labels, self.num_classes)
        return replace(self, labels=labels)

    def sample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "num_samples d"]:
        """Draw independent samples of all classes at sigma = 0, on the CPU."""
        return self.mixture.sample(num_samples, generator)

    def sample_labelled(
        self, num_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "num_samples d"], Int64[Tensor, "num_samples"]]:
        """Draw the same samples, and return the class of each too."""
        samples, component = self.mixture.sample_components(num_samples, generator)
        return samples, self.classes[component]

    def log_prob(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return log p(x | class; sigma) in nats."""
        (values,) = self._by_class(lambda law, x, s: (law.log_prob(x, s),), x, sigma)
        return values

    def score(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return grad_x log p(x | class; sigma)."""
        (values,) = self._by_class(lambda law, x, s: (law.score(x, s),), x, sigma)
        return values

    def laplacian(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return sum_i d2/dx_i^2 log p(x | class; sigma)."""
        (values,) = self._by_class(lambda law, x, s: (law.laplacian(x, s),), x, sigma)
        return values

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        (values,) = self._by_class(lambda law, x, s: (law(x, s),), x, sigma)
        return values

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return E[x0 | x, class] and its exact divergence; ``probes`` are not used."""
        denoised, divergence = self._by_class(
            lambda law, x, s: law.with_divergence(x, s), x, sigma
        )
        return denoised, divergence

    @cached_property
    def _laws(self) -> list[Mixture]:
        rows = (torch.nonzero(self.classes == c)[:, 0] for c in range(self.num_classes))
        return [self.mixture.subset(components) for components in rows]

    def _by_class(
        self,
        function: Callable[[Mixture, Tensor, Tensor], tuple[Tensor, ...]],
        x: Tensor,
        sigma: Tensor,
    ) -> tuple[Tensor, ...]:
        """Apply a function to the rows of each class with its distribution."""
        if self.labels is None:
            return function(self.mixture, x, sigma)
        labels = self.labels.expand(sigma.shape)
        results: list[Tensor] | None = None
        for label in labels.unique().tolist():
            rows = labels == label
            law = self.mixture if label == -1 else self._laws[label]
            values = function(law, x[rows], sigma[rows])
            if results is None:
                results = [v.new_zeros(*sigma.shape, *v.shape[1:]) for v in values]
            for result, value in zip(results, values, strict=True):
                result[rows] = value
        return function(self.mixture, x, sigma) if results is None else tuple(results)

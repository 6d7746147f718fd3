r"""Neon: weights extrapolated away from self-training (Alemohammad et al. 2025, arXiv 2510.03597).

A copy of the base is fine-tuned on the base's own samples, from theta to theta_ft; the corrected
model has the parameters

    theta_w = theta - w (theta_ft - theta) = (1 + w) theta - w theta_ft.

One network is evaluated in sampling, unlike with SIMS, whose formula this is in the parameters
instead of the denoisers. The correction is not linear in w.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.copies import network_of, with_network
from dgray.correction.correction import Correction, Inputs
from dgray.correction.network_ensemble import copies_of_base
from dgray.correction.trained_networks import TrainedDenoisers
from dgray.correction.weight import Weight
from dgray.diffusion.denoiser import Conditional, Denoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors


@dataclass(frozen=True, eq=False)
class Extrapolation(Correction):
    """Base with parameters extrapolated away from those of another network.

    Attributes:
        base: the denoiser to be corrected.
        tuned: the other denoiser, of the same architecture.
        trained: its trained tensors.
        labels: classes of the samples; None: no class.
    """

    base: Denoiser
    tuned: Denoiser
    trained: tuple[Tensor, ...] = ()
    labels: Tensor | None = None
    _networks: dict[float, Denoiser] = field(default_factory=dict, repr=False)

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return self.trained

    @property
    def num_classes(self) -> int:
        """Number of classes that the base reads; 0: none."""
        return self.base.num_classes if isinstance(self.base, Conditional) else 0

    def with_labels(self, labels: Labels) -> Self:
        """Return the correction of samples of these classes."""
        return replace(self, labels=labels)

    @override
    def denoiser(self, base: Denoiser, weight: Weight) -> Denoiser:
        return ExtrapolatedDenoiser(base, self, weight)

    def denoiser_at(self, weight: float) -> Denoiser:
        """Return the denoiser with the parameters theta_w, bound to no labels."""
        if weight not in self._networks:
            network, tuned = network_of(self.base), network_of(self.tuned)
            assert network is not None
            assert tuned is not None
            network, others = copy.deepcopy(network), dict(tuned.named_parameters())
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameter.add_(parameter - others[name], alpha=weight)
            self._networks[weight] = with_network(self.base, network)
        return self._networks[weight]


@dataclass(frozen=True)
class ExtrapolatedDenoiser(Denoiser):
    """Denoiser of an extrapolation, whose weight may differ between rows and noise levels."""

    base: Denoiser
    extrapolation: Extrapolation
    weight: Weight

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.base)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        denoised = self.base(x, sigma)
        for denoiser, rows in self._by_weight(sigma):
            denoised = denoised.clone()
            denoised[rows] = denoiser(x[rows], sigma[rows])
        return denoised

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        denoised, divergence = self.base.with_divergence(x, sigma, probes)
        for denoiser, rows in self._by_weight(sigma):
            chosen = None if probes is None else probes[:, rows]
            denoised[rows], divergence[rows] = denoiser.with_divergence(
                x[rows], sigma[rows], chosen
            )
        return denoised, divergence

    def _by_weight(self, sigma: Scalars) -> list[tuple[Denoiser, Tensor]]:
        """Return the denoiser of each weight but 0, and the mask of its rows."""
        weights, labels = self.weight(sigma), self.extrapolation.labels
        labels = None if labels is None else labels.expand(sigma.shape)
        values = [value for value in weights.unique().tolist() if value != 0]
        masks = [weights == value for value in values]
        return [
            (
                with_labels(
                    self.extrapolation.denoiser_at(v), None if labels is None else labels[m]
                ),
                m,
            )
            for v, m in zip(values, masks, strict=True)
        ]


@dataclass(frozen=True)
class SelfTrained(TrainedDenoisers):
    """Copies of the base in training on its own samples, one for each replicate."""

    @override
    def member(self, index: int) -> Extrapolation:
        tuned, tensors = self.trained(index)
        return Extrapolation(self.base, tuned, tensors)


def build_neon(inputs: Inputs, generators: Sequence[torch.Generator]) -> SelfTrained:
    """Return copies of the base, one for each generator.

    Raises:
        CorrectionError: if the base has no network that dgray can train.
    """
    networks = copies_of_base(inputs.base, len(generators), inputs.shape)
    return SelfTrained(networks, inputs.base, sign=-1, on_generated=True)

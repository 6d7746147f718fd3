"""Corrections that train a network for each replicate: copies of the base, or new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.copies import network_of
from dgray.base.fit_network import BaseArchitecture, as_denoiser, build_network
from dgray.catalogue import network_like
from dgray.correction.correction import Correction, CorrectionEnsemble, Inputs
from dgray.correction.difference import DenoiserDifference
from dgray.correction.network_ensemble import NetworkEnsemble, copies_of_base, initialised
from dgray.diffusion.denoiser import ChunkedDenoiser, Denoiser
from dgray.diffusion.shapes import Scalars, Vectors
from dgray.discriminator.objective import Batch, Noised


@dataclass(frozen=True)
class TrainedNetworks(CorrectionEnsemble, Protocol):
    """Networks in training, one for each replicate: denoisers, or free vector fields."""

    networks: NetworkEnsemble

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Trained tensors by name, leading dimension R."""
        return self.networks.parameters

    @property
    @override
    def num_parameters(self) -> int:
        return self.networks.num_parameters

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return self.networks.tensors

    @override
    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        return replace(self, networks=self.networks.with_tensors(tensors))

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Self:
        return replace(self, networks=self.networks.dropped(probability, generators, num_rows))

    def trained(self, index: int) -> tuple[Denoiser, tuple[Tensor, ...]]:
        """Return the network of one replicate, and its trained tensors."""
        return self.networks.member(index), tuple(tensor[index] for tensor in self.tensors)


@dataclass(frozen=True)
class TrainedDenoisers(TrainedNetworks):
    """Denoisers in training by the denoising error, one for each replicate.

    Attributes:
        base: denoiser to be corrected.
        sign: 1: the base is moved towards the trained denoiser; -1: away from it.
        on_generated: whether they are trained on samples of the base instead of the data.
    """

    base: Denoiser
    sign: Literal[1, -1]
    on_generated: bool

    @override
    def loss(self, batch: Batch) -> Scalars:
        noised = batch.generated if self.on_generated else batch.real
        assert noised is not None  # needs_generated
        return denoiser_loss(self.networks(noised), noised)

    @override
    def member(self, index: int) -> Correction:
        other, tensors = self.trained(index)
        return DenoiserDifference(self.base, other, self.sign, tensors)


def denoiser_loss(denoised: Vectors, noised: Noised) -> Scalars:
    """Return |D - x0|^2 / sigma^2 of each sample, shape (..., N)."""
    residual = noised.noise + (denoised - noised.x) / noised.sigma[..., None]
    return (residual**2).sum(-1)


def new_denoisers(
    inputs: Inputs, generators: Sequence[torch.Generator], network: Mapping[str, Any]
) -> NetworkEnsemble:
    """Return untrained denoisers, one for each generator.

    Args:
        inputs: base and its samples.
        generators: each draws the initial weights of one replicate.
        network: section ``discriminator`` of the study: kind and size of the network.
    """
    architecture = BaseArchitecture(
        network=network_like(network["kind"]).name,
        shape=inputs.shape or (inputs.dimension,),
        width=network["width"],
        depth=network["depth"],
        sigma_data=inputs.sigma_data,
    )
    networks = initialised(lambda: build_network(architecture), generators)
    template = as_denoiser(build_network(architecture), architecture)
    if isinstance(inputs.base, ChunkedDenoiser):
        template = ChunkedDenoiser(template, inputs.base.size)
    return NetworkEnsemble.of(template, networks, inputs.shape)


def copies_or_new(
    inputs: Inputs, generators: Sequence[torch.Generator], network: Mapping[str, Any]
) -> NetworkEnsemble:
    """Return copies of the base if it is a network that dgray can train, else new denoisers."""
    if network_of(inputs.base) is None:
        return new_denoisers(inputs, generators, network)
    return copies_of_base(inputs.base, len(generators), inputs.shape)

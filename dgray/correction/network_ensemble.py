"""R copies of a network of vectors, trained together: denoisers, or free vector fields."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from dgray.base.copies import network_of, with_network
from dgray.base.networks.mlp_denoiser import one_hot
from dgray.base.networks.preconditioning import Preconditioned
from dgray.data.images import Shape
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.noise import global_seed
from dgray.diffusion.shapes import Vectors
from dgray.discriminator.discriminator import Trainable
from dgray.discriminator.objective import Noised
from dgray.errors import CorrectionError


@dataclass(frozen=True, kw_only=True)
class NetworkEnsemble(Trainable):
    """R networks of one architecture.

    Attributes:
        template: denoiser or vector field around one network, whose own tensors are not used; a
            member has its form.
        parameters: trained tensors by name, leading dimension R.
        shape: (C, H, W) of a network of images; None of points.
    """

    template: Denoiser
    parameters: Mapping[str, Tensor]
    shape: Shape | None

    @staticmethod
    def of(
        template: Denoiser, networks: Sequence[nn.Module], shape: Shape | None
    ) -> NetworkEnsemble:
        """Stack networks of one architecture.

        Args:
            template: denoiser around one of them, or around a network of the same class.
            networks: R of them.
            shape: (C, H, W) of networks of images; None of points.
        """
        named = [dict(network.named_parameters()) for network in networks]
        stacked = {name: torch.stack([n[name].detach() for n in named]) for name in named[0]}
        return NetworkEnsemble(template=template, parameters=stacked, shape=shape)

    @property
    def network(self) -> nn.Module:
        """Network of the template."""
        network = network_of(self.template)
        assert network is not None  # a template is built around a network
        return network

    @property
    @override
    def num_parameters(self) -> int:
        return sum(t[0].numel() for t in self.tensors)

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.parameters.values())

    @override
    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        return replace(self, parameters=dict(zip(self.parameters, tensors, strict=True)))

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Self:
        """Refuse dropout.

        Raises:
            CorrectionError: always.
        """
        raise CorrectionError(
            f"fit.dropout must be 0 for a correction that trains denoisers, but it is "
            f"{probability:g}; set it to 0"
        )

    @override
    def member(self, index: int) -> Denoiser:
        """Return the denoiser of one network."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.parameters[name][index])
        return with_network(self.template, network.eval().requires_grad_(False))

    def __call__(self, noised: Noised) -> Vectors:
        """Return the outputs of all networks, (R, N, d), for samples (R, N, d) or (1, N, d)."""
        count = len(self.tensors[0])
        x, sigma = noised.x.expand(count, -1, -1), noised.sigma.expand(count, -1)
        labels = noised.labels
        rows = [x, sigma] if labels is None else [x, sigma, labels.expand(count, -1)]
        if self.shape is None:
            outputs: Tensor = vmap(self._call)(dict(self.parameters), *rows)
            return outputs
        members = (  # loops, since convolutions with weights of their own are slow in groups
            self._call({name: t[r] for name, t in self.parameters.items()}, *(v[r] for v in rows))
            for r in range(count)
        )
        return torch.stack(list(members))

    def _call(self, state: dict[str, Tensor], *rows: Tensor) -> Tensor:
        """Return the output of one network, (N, d)."""
        x, sigma, *labels = rows
        network = self.network
        if not isinstance(network, Preconditioned):
            inputs = labels if getattr(network, "num_classes", 0) else []
            output: Tensor = functional_call(network, state, (x, sigma, *inputs))
            return output
        assert self.shape is not None
        num_classes = getattr(network, "label_dim", 0)
        classes = one_hot(labels[0], num_classes) if labels and num_classes else None
        images = functional_call(network, state, (x.unflatten(-1, self.shape), sigma, classes))
        return torch.flatten(images, 1)


def copies_of_base(base: Denoiser, count: int, shape: Shape | None) -> NetworkEnsemble:
    """Return R copies of the network of a base.

    Raises:
        CorrectionError: if the base has no network that dgray can train.
    """
    network = network_of(base)
    if network is None:
        raise CorrectionError(
            "a correction that trains copies of the base needs a base with a network of dgray or "
            f"EDM, but this one is a {type(base).__name__}"
        )
    return NetworkEnsemble.of(base, [network] * count, shape)


def initialised(
    build: Callable[[], nn.Module], generators: Sequence[torch.Generator]
) -> list[nn.Module]:
    """Return networks whose initial weights each generator's seed draws."""
    networks = []
    for generator in generators:
        with global_seed(generator.initial_seed()):
            networks.append(build())
    return networks

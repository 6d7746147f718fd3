"""Copies of the network of a base, which can be trained further or replaced."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.mlp_denoiser import ClassDenoiser, MlpDenoiser
from dgray.base.networks.preconditioning import Preconditioned
from dgray.diffusion.denoiser import AutogradDenoiser, ChunkedDenoiser, Denoiser


def network_of(base: Denoiser) -> nn.Module | None:
    """Return the network of a base; None if it has none."""
    match base:
        case ChunkedDenoiser():
            return network_of(base.inner)
        case NetworkDenoiser():
            return base.module
        case ClassDenoiser():
            return base.model
        case AutogradDenoiser() if isinstance(base.function, nn.Module):
            return base.function
    return None


def with_network(base: Denoiser, network: nn.Module) -> Denoiser:
    """Return the denoiser with another network in place of its own, of the same form.

    Raises:
        ValueError: if the denoiser has no network.
    """
    match base:
        case ChunkedDenoiser():
            return replace(base, inner=with_network(base.inner, network))
        case NetworkDenoiser() if isinstance(network, Preconditioned):
            return replace(base, module=network)
        case ClassDenoiser() if isinstance(network, MlpDenoiser):
            return replace(base, model=network)
        case AutogradDenoiser():
            return replace(base, function=network)
    raise ValueError(f"a {type(base).__name__} has no network that could be replaced")

"""Builders of discriminators: controls, and untrained or trained ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol

import torch

from dgray.base.networks.preconditioning import EncoderFeatures, Preconditioned
from dgray.config.parts import section_arguments
from dgray.config.study import StudyConfig
from dgray.config.training import DiscriminatorSection
from dgray.data.images import Shape
from dgray.diffusion.denoiser import ChunkedDenoiser, Denoiser
from dgray.diffusion.noise import named_generator
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.discriminator import Discriminator, Ensemble
from dgray.discriminator.mlp import Mlp, MlpShape, initialise
from dgray.discriminator.module_ensemble import ModuleEnsemble, build_module_ensemble
from dgray.discriminator.trunk import ModuleTrunk, load_trunk
from dgray.problem.problem import Problem


def build_control(config: StudyConfig, problem: Problem) -> Discriminator:
    """Return a discriminator that is not trained: a control.

    Raises:
        ValueError: if a control needs the exact log-ratio, but the base is a network.
    """
    fit, log_ratio = config.fit, problem.log_ratio()
    if log_ratio is None:
        raise ValueError(
            f"{fit.objective.name} needs a base of known density, but this one is a network"
        )
    control: Discriminator = fit.objective.spec.load()(log_ratio, **fit.objective_arguments)
    return control


class DiscriminatorInput(Protocol):
    """Properties of data and base on which a discriminator depends; a ``Problem`` is one."""

    @property
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None of points."""
        ...

    @property
    def dimension(self) -> int:
        """Number of values of a sample."""
        ...

    @property
    def sigma_data(self) -> float:
        """Scale of the data, > 0."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes of the data; 0: unconditional."""
        ...

    @property
    def base(self) -> Denoiser:
        """Base, whose encoder can be the trunk."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the discriminator."""
        ...


def build_discriminator(
    config: StudyConfig, problem: DiscriminatorInput, replicates: Sequence[int]
) -> Ensemble:
    """Return an untrained ensemble on the problem's device, one member per replicate."""
    generators = initial_generators(config.seed, replicates)
    return build_ensemble(config.discriminator, problem, generators)


def initial_generators(seed: int, replicates: Sequence[int]) -> list[torch.Generator]:
    """Return the generators of the initial weights of replicates."""
    return [named_generator(seed, "initial", replicate) for replicate in replicates]


def build_ensemble(
    section: DiscriminatorSection,
    problem: DiscriminatorInput,
    generators: Sequence[torch.Generator],
) -> Ensemble:
    """Return an untrained ensemble on the device of data and base, one member per generator."""
    ensemble: Ensemble
    if section.spec.is_ensemble:
        arguments = section_arguments(section, DiscriminatorSection)
        ensemble = section.spec.load()(problem, generators, **arguments)
    else:
        shape = problem.shape or (problem.dimension,)
        ensemble = build_modules(section, shape, problem.sigma_data, generators)
    return ensemble.with_tensors([t.to(problem.device) for t in ensemble.tensors])


def build_modules(
    section: DiscriminatorSection,
    shape: tuple[int, ...],
    sigma_data: float,
    generators: Sequence[torch.Generator],
) -> ModuleEnsemble:
    """Return an untrained ensemble of the modules of a factory, one for each generator."""
    factory = partial(section.spec.load(), **section_arguments(section, DiscriminatorSection))
    return build_module_ensemble(factory, generators, shape=shape, sigma_data=sigma_data)


def build_mlp(
    problem: DiscriminatorInput,
    generators: Sequence[torch.Generator],
    *,
    width: int,
    depth: int,
    activation: Literal["silu", "softplus", "tanh"],
    conditional: bool = False,
) -> Mlp:
    """Return an untrained ensemble of multilayer perceptrons on the CPU."""
    shape = MlpShape(
        dimension=problem.dimension,
        width=width,
        depth=depth,
        activation=activation,
        num_classes=problem.num_classes if conditional else 0,
    )
    return initialise(shape, problem.sigma_data, generators)


def build_conv(
    problem: DiscriminatorInput,
    generators: Sequence[torch.Generator],
    *,
    width: int,
    depth: int,
    attention: bool,
    conditional: bool,
    trunk: str,
) -> ConvNet:
    """Return an untrained convolutional ensemble on the CPU; its trunk is on the device."""
    assert problem.shape is not None  # a rule of the study file
    maps = None
    if trunk == "base":
        maps = ModuleTrunk.of(EncoderFeatures(_base_module(problem)), problem.shape)
    elif trunk != "none":
        maps = load_trunk(trunk, problem.shape, problem.device)
    shape = ConvShape(
        image=problem.shape if maps is None else maps.shape,
        width=width,
        depth=depth,
        attention=attention,
        num_classes=problem.num_classes if conditional else 0,
    )
    return initialise_conv(shape, problem.sigma_data, generators, trunk=maps)


def _base_module(problem: DiscriminatorInput) -> Preconditioned:
    """Return the network of the base, whose encoder is to be the discriminator's trunk."""
    base = problem.base.inner if isinstance(problem.base, ChunkedDenoiser) else problem.base
    module = getattr(base, "module", None)
    if not isinstance(module, Preconditioned):
        raise ValueError(
            "discriminator.trunk 'base' needs a base with an encoder, a U-Net; use base.network "
            "'unet', base.kind 'edm', or trunk: none"
        )
    return module

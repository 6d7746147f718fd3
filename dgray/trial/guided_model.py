"""The guided model of a run's trial, or a bare base, ready to be sampled.

Knows the run folder's files and how the trial was built; not where samples go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.config.data import MixtureData
from dgray.data.images import Shape
from dgray.diffusion.noise import philox_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import SplineWeight
from dgray.plan.plan import Setting, Trial
from dgray.plan.shared_keys import images_key
from dgray.problem.base_model import edm_architecture, load_edm
from dgray.problem.build import build_control, build_discriminator, build_problem
from dgray.problem.image_store import unpack_images
from dgray.problem.problem import Problem
from dgray.trial.sampling import draw

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # Karras et al. 2022, Table 1


@dataclass(frozen=True)
class RunModel:
    """A discriminator on its base at one setting.

    Attributes:
        problem: data and base.
        discriminator: of one replicate.
        setting: weight, sampler and number of steps.
        calibrated: the calibrated weight, if the setting asks for it.
        name: what it is, in words.
    """

    problem: Problem
    discriminator: Discriminator
    setting: Setting
    calibrated: SplineWeight | None
    name: str

    @property
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None for points."""
        return self.problem.shape

    @torch.no_grad()
    def draw(self, seeds: range) -> Tensor:
        """Samples of these seeds, float64 (n, d); each depends on its own seed alone."""
        calibrated = {} if self.calibrated is None else {self.setting.interval: self.calibrated}
        drawn = draw(self.problem, self.discriminator, calibrated, [self.setting], seeds)
        return drawn[self.setting].samples


@dataclass(frozen=True)
class BareBase:
    """A stored network without a study, by Heun's method with EDM's noise levels.

    Attributes:
        base: the denoiser; a class-conditional one is asked for no class.
        seed: of all noise.
        num_steps: of Heun's method.
        name: what it is, in words.
    """

    base: NetworkDenoiser
    seed: int
    num_steps: int
    name: str

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.base.shape

    @torch.no_grad()
    def draw(self, seeds: range) -> Tensor:
        """See ``RunModel``."""
        sigmas = karras_sigmas(self.num_steps, SIGMA_MIN, SIGMA_MAX, RHO)
        noise = philox_noise(self.seed, seeds, (self.base.dimension,), "start")
        device = next(self.base.module.parameters()).device
        return heun(self.base, SIGMA_MAX * noise.to(device), sigmas)


class Recipe(Protocol):
    """What a model is built from, wherever that is: it can be sent to another machine."""

    @property
    def name(self) -> str:
        """What it is, in words."""
        ...

    @property
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None for points."""
        ...

    def build(self, device: torch.device) -> RunModel | BareBase:
        """The model on a device."""
        ...


@dataclass(frozen=True)
class BaseRecipe:
    """Of a bare base; ``network``: its weights, and in their header what it is."""

    network: bytes
    seed: int
    num_steps: int
    name: str

    @property
    def shape(self) -> Shape:
        """See ``Recipe``."""
        return edm_architecture(self.network).shape

    def build(self, device: torch.device) -> BareBase:
        """See ``Recipe``."""
        return BareBase(load_edm(self.network, device), self.seed, self.num_steps, self.name)


@dataclass(frozen=True)
class RunRecipe:
    """Of a model of a run.

    Attributes:
        trial: what was trained.
        artifacts: what it needs.
        weights: of one discriminator; None of a control.
        setting: weight, sampler and number of steps.
        calibrated: the calibrated weight, if the setting asks for it.
        name: what it is, in words.
    """

    trial: Trial
    artifacts: Mapping[str, bytes]
    weights: list[Tensor] | None
    setting: Setting
    calibrated: SplineWeight | None
    name: str

    @property
    def shape(self) -> Shape | None:
        """See ``Recipe``."""
        if isinstance(self.trial.config.data, MixtureData):
            return None
        return unpack_images(self.artifacts[images_key(self.trial.config)]).shape

    def build(self, device: torch.device) -> RunModel:
        """See ``Recipe``."""
        problem = build_problem(self.trial.config, self.artifacts, device)
        if self.weights is None:
            discriminator = build_control(self.trial.objective, problem)
        else:
            stacked = [weight[None].to(device) for weight in self.weights]
            discriminator = build_discriminator(problem, [0]).with_tensors(stacked).member(0)
        return RunModel(problem, discriminator, self.setting, self.calibrated, self.name)

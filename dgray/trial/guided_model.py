"""Guided model of a trial, or a bare base, from which samples can be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.correction.correction import Correction
from dgray.correction.weight import SplineWeight
from dgray.data.images import to_uint8, unflatten
from dgray.diffusion.noise import philox_noise
from dgray.diffusion.sampler import heun, sampler_sigmas
from dgray.errors import SampleError
from dgray.plan.plan import Setting, Trial
from dgray.problem.base_model import load_edm
from dgray.problem.build import build_problem
from dgray.problem.correction import build_member
from dgray.problem.make_shared import shared_of
from dgray.problem.problem import Problem
from dgray.trial.sampling import DrawRequest, Interval, draw

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # Karras et al. 2022, Table 1


class SampledModel(Protocol):
    """Model from which samples are drawn."""

    def draw(self, seeds: range) -> Tensor:
        """Draw samples, each of which depends on its own seed alone.

        Returns:
            Points, float32 (n, d), or images, uint8 (n, H, W, C).
        """
        ...


def check_finite(samples: Tensor) -> None:
    """Check samples before they are rounded to bytes.

    Raises:
        SampleError: if some are not finite.
    """
    if not bool(torch.isfinite(samples).all()):
        raise SampleError("the samples of the model are not finite; lower --guidance-weight")


@dataclass(frozen=True)
class GuidedModel(SampledModel):
    """Base of a run with its correction at one setting.

    Attributes:
        problem: data and base.
        correction: correction of one replicate, or a control.
        setting: weight, sampler and number of steps.
        calibrated: calibrated weight; None if the setting has a constant one.
    """

    problem: Problem
    correction: Correction
    setting: Setting
    calibrated: SplineWeight | None

    @property
    def calibrated_weights(self) -> Mapping[Interval, SplineWeight]:
        """The calibrated weight by its guidance interval; empty without one."""
        return {} if self.calibrated is None else {self.setting.interval: self.calibrated}

    @override
    @torch.no_grad()
    def draw(self, seeds: Sequence[int]) -> Tensor:
        request = DrawRequest(
            correction=self.correction,
            calibrated=self.calibrated_weights,
            settings=[self.setting],
            seeds=seeds,
        )
        samples = draw(self.problem, request)[self.setting].samples
        check_finite(samples)
        return self.problem.to_output(samples)


@dataclass(frozen=True)
class BareBase(SampledModel):
    """Stored network without a study, sampled by Heun's method at EDM's noise levels.

    Attributes:
        base: denoiser of images; a class-conditional one is used without a class.
        seed: seed of all noise.
        num_steps: steps of Heun's method.
    """

    base: NetworkDenoiser
    seed: int
    num_steps: int

    @override
    @torch.no_grad()
    def draw(self, seeds: range) -> Tensor:
        sigmas = sampler_sigmas(self.base, self.num_steps, (SIGMA_MIN, SIGMA_MAX), RHO)
        noise = philox_noise(self.seed, seeds, (self.base.dimension,), "start")
        device = next(self.base.module.parameters()).device
        samples = heun(self.base, float(sigmas[0]) * noise.to(device), sigmas)
        check_finite(samples)
        return unflatten(to_uint8(samples), self.base.shape).movedim(1, -1)


class Recipe(Protocol):
    """Picklable description from which a model is built, on any machine."""

    @property
    def name(self) -> str:
        """Description of the model."""
        ...

    def build(self, device: torch.device) -> SampledModel:
        """Build the model on a device."""
        ...


@dataclass(frozen=True)
class BaseRecipe:
    """Recipe of a bare base; ``network``: the artifact that ``import_edm`` made."""

    network: bytes
    seed: int
    num_steps: int
    name: str

    def build(self, device: torch.device) -> BareBase:
        """Build the model on a device."""
        return BareBase(load_edm(self.network, device), self.seed, self.num_steps)


@dataclass(frozen=True)
class RunRecipe:
    """Recipe of a model of a run.

    Attributes:
        trial: trial of the model.
        artifacts: its shared artifacts by key.
        weights: tensors of one correction; None for a control.
        replicate: replicate of the correction.
        setting: weight, sampler and number of steps.
        calibrated: calibrated weight; None if the setting has a constant one.
        name: description of the model.
    """

    trial: Trial
    artifacts: Mapping[str, bytes]
    weights: list[Tensor] | None
    replicate: int
    setting: Setting
    calibrated: SplineWeight | None
    name: str

    @property
    def is_base(self) -> bool:
        """True if the calibrated weight is 0 at every noise level: the model is the base."""
        return self.calibrated is not None and self.calibrated.is_zero

    def build(self, device: torch.device) -> GuidedModel:
        """Build the model on a device."""
        config = self.trial.config
        problem = build_problem(config, shared_of(config, self.artifacts), device)
        member = build_member(config, problem, self.trial.objective, self.weights, self.replicate)
        return GuidedModel(problem, member, self.setting, self.calibrated)

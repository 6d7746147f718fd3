"""Builders of corrections: controls, and untrained or trained ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from dgray.catalogue import CORRECTIONS, CorrectionSpec
from dgray.config.parts import BASE
from dgray.config.study import StudyConfig
from dgray.correction.correction import Correction, Inputs
from dgray.correction.guidance import Guidance
from dgray.diffusion.shapes import Scalars
from dgray.discriminator.discriminator import Trainable, ZeroDiscriminator
from dgray.discriminator.objective import Batch, Loss, ObjectiveLoss
from dgray.errors import PartError
from dgray.problem.discriminator import (
    build_control,
    build_discriminator,
    initial_generators,
)
from dgray.problem.objective import build_objective
from dgray.problem.problem import Problem


def build_trained(config: StudyConfig, problem: Inputs, replicates: Sequence[int]) -> Trainable:
    """Return the untrained ensemble of a trial on the device of its inputs.

    Its members are discriminators if the correction is made from them, else corrections.
    """
    spec = config.correction.spec
    if spec.needs_discriminator:
        return build_discriminator(config, problem, replicates)
    generators = initial_generators(config.seed, replicates)
    ensemble: Trainable = spec.load()(problem, generators, **correction_arguments(config))
    if spec not in CORRECTIONS.built_in:
        _check_ensemble(ensemble, spec)
    return ensemble.with_tensors([t.to(problem.device) for t in ensemble.tensors])


def correction_arguments(config: StudyConfig) -> dict[str, Any]:
    """Return the keyword arguments of the factory of a correction."""
    correction = config.correction
    network = {"network": config.discriminator.model_dump()}
    return {**(network if correction.spec.needs_network else {}), **correction.arguments}


def _check_ensemble(ensemble: Any, spec: CorrectionSpec) -> None:
    """Check what a user-defined factory returned.

    Raises:
        PartError: if it is no ensemble of corrections.
    """
    names = ("num_parameters", "tensors", "with_tensors", "dropped", "member", "loss")
    if missing := [name for name in names if not hasattr(ensemble, name)]:
        raise PartError(
            f"the factory of the correction {spec.name} must return a CorrectionEnsemble "
            f"(dgray.correction.correction), but returned {type(ensemble).__name__}, which lacks "
            f"{', '.join(missing)}"
        )


def build_loss(config: StudyConfig) -> Loss:
    """Return the loss that is minimised in training."""
    if config.correction.spec.needs_discriminator:
        span = config.diffusion.sigma_min, config.diffusion.sigma_max
        return ObjectiveLoss(build_objective(config.fit, span))
    return own_loss


def own_loss(ensemble: Any, batch: Batch) -> Scalars:
    """Return the loss of an ensemble of corrections that has one of its own."""
    loss: Scalars = ensemble.loss(batch)
    return loss


def as_correction(config: StudyConfig, member: Any) -> Correction:
    """Return the correction of one replicate from a member of a trained ensemble, or a control."""
    spec = config.correction.spec
    if not spec.needs_discriminator:
        correction: Correction = member
    else:
        correction = partial(spec.load(), **correction_arguments(config))(member)
    if spec not in CORRECTIONS.built_in and not isinstance(correction, Correction):
        raise PartError(
            f"the correction {spec.name} must be a Correction (dgray.correction.correction), but "
            f"got {type(correction).__name__}"
        )
    return correction


def build_untrained(config: StudyConfig, objective: str, problem: Problem) -> Correction:
    """Return the correction of the base, which has no effect, or that of a control."""
    if objective == BASE:
        return Guidance(ZeroDiscriminator())
    if config.correction.spec.needs_discriminator:
        return as_correction(config, build_control(config, problem))
    return as_correction(config, build_trained(config, problem, [0]).member(0))


def build_member(
    config: StudyConfig,
    problem: Problem,
    objective: str,
    weights: Sequence[Tensor] | None,
    replicate: int,
) -> Correction:
    """Return a trained correction from its tensors, or without them a control.

    The replicate names the draws of what is not trained, such as random features in a buffer.
    """
    if weights is None:
        return build_untrained(config, objective, problem)
    stacked = [weight[None].to(problem.device) for weight in weights]
    ensemble = build_trained(config, problem, [replicate]).with_tensors(stacked)
    return as_correction(config, ensemble.member(0))

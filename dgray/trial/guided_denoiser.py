"""Guided denoiser of a run, with the description by which it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgray.base.networks.facts import diffusers_folders
from dgray.catalogue import CORRECTIONS, GUIDANCE, SAMPLERS
from dgray.catalogue.objects import PREFIX
from dgray.config.bases import BaseSection, DiffusersBase, NetworkBase
from dgray.config.data import DataSection
from dgray.config.parts import section_arguments
from dgray.config.training import DiscriminatorSection
from dgray.correction.correction import DiscriminatorCorrection, SamplerCorrection
from dgray.discriminator.discriminator import Discriminator
from dgray.errors import GuidedModelError
from dgray.files import sha256_of
from dgray.guided.description import BasePart, Description, TrainedPart, named_tensors
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.model import GuidedDenoiser
from dgray.guided.sampling import Sampling
from dgray.guided.space import SampleSpace
from dgray.plan.plan import Setting
from dgray.problem.correction import build_trained, correction_arguments
from dgray.problem.make_shared import shared_of
from dgray.problem.problem import Problem
from dgray.trial.guided_model import GuidedModel, RunRecipe
from dgray.trial.sampling import acting_weight


def guided_denoiser(recipe: RunRecipe, device: torch.device, *, run: str) -> GuidedDenoiser:
    """Return the guided denoiser of a recipe.

    Args:
        recipe: recipe of the model.
        device: device of the model.
        run: name of the run, which is stored with the model.
    """
    model = recipe.build(device)
    correction = model.correction
    if isinstance(correction, SamplerCorrection):
        raise GuidedModelError(
            f"{recipe.trial.correction} selects among finished samples of the base, so that "
            "it has no denoiser; draw samples with run.sample(n) or dgray sample, or choose a "
            "trial of another correction"
        )
    problem, setting, config = model.problem, model.setting, recipe.trial.config
    space = _space(problem)
    spec = config.evaluate.sampler_named(setting.sampler).spec
    is_built_in = spec in SAMPLERS.built_in
    values = _sampling_values(problem, setting)
    function = problem.evaluation.samplers[setting.sampler].function
    weight = acting_weight(setting, model.calibrated_weights)
    description = None
    if recipe.weights is not None and not _is_object(config.correction.kind):
        stored = values | {"sampler": setting.sampler}
        description = Description(
            space=space,
            discriminator=_discriminator_part(recipe, correction.discriminator)
            if isinstance(correction, DiscriminatorCorrection)
            else None,
            correction=_correction_part(recipe, problem),
            base=None if _is_object(config.base) else _base_part(recipe),
            guidance=_guidance(model),
            sampling=stored if is_built_in else stored | {"factory": spec.factory},
            source={
                "run": run,
                "study": config.name,
                "trial": recipe.trial.id,
                "model": recipe.name,
            },
        )
    return GuidedDenoiser(
        base=problem.base,
        correction=correction,
        weight=weight,
        space=space,
        sampling=Sampling(sampler=setting.sampler if is_built_in else function, **values),
        description=description,
    )


def _space(problem: Problem) -> SampleSpace:
    return SampleSpace(
        size=problem.shape or (problem.dimension,),
        sigmas=problem.span,
        sigma_data=problem.sigma_data,
        num_classes=problem.num_classes,
        device=problem.device,
    )


def _sampling_values(problem: Problem, setting: Setting) -> dict[str, Any]:
    """Return the fields of ``Sampling``, without the sampler."""
    return {
        "options": dict(problem.evaluation.samplers[setting.sampler].options),
        "num_steps": setting.num_steps,
        "rho": problem.evaluation.rho,
        "prior_std": problem.prior_std,
        "seed": problem.seed,
        "guided_stage": setting.guided_stage,
    }


def sample_discriminator(recipe: RunRecipe, device: torch.device) -> SampleDiscriminator:
    """Return the discriminator of a recipe.

    Raises:
        GuidedModelError: the correction has none.
    """
    model = recipe.build(device)
    if not isinstance(model.correction, DiscriminatorCorrection):
        raise GuidedModelError(
            f"{recipe.trial.correction} has no discriminator; choose a trial of guidance, or take "
            "the denoiser with run.denoiser()"
        )
    discriminator = model.correction.discriminator
    part = None if recipe.weights is None else _discriminator_part(recipe, discriminator)
    return SampleDiscriminator(discriminator, _space(model.problem), part)


def _is_object(section: Any) -> bool:
    """Return whether a part is a Python object, which is not stored and is given to the loader."""
    return str(getattr(section, "factory", "")).startswith(PREFIX)


def _discriminator_part(recipe: RunRecipe, member: Discriminator) -> TrainedPart:
    config = recipe.trial.config
    section = config.discriminator
    return TrainedPart(
        kind=section.kind,
        arguments=section_arguments(section, DiscriminatorSection),
        factory=None if _is_object(section) else getattr(section, "factory", None),
        seed=config.seed,
        replicate=recipe.replicate,
        tensors=named_tensors(member),
    )


def _correction_part(recipe: RunRecipe, problem: Problem) -> TrainedPart | None:
    """Return how the correction is built; None for guidance."""
    config = recipe.trial.config
    part = config.correction.kind
    if part.spec == CORRECTIONS[GUIDANCE]:
        return None
    tensors: dict[str, Tensor] = {}
    if not part.spec.needs_discriminator:
        assert recipe.weights is not None
        names = named_tensors(build_trained(config, problem, [recipe.replicate]))
        tensors = dict(zip(names, recipe.weights, strict=True))
    return TrainedPart(
        kind=part.name,
        arguments=correction_arguments(config),
        factory=part.factory,
        seed=config.seed,
        replicate=recipe.replicate,
        tensors=tensors,
    )


def _base_part(recipe: RunRecipe) -> BasePart:
    config = recipe.trial.config
    base, spec, data = config.base, config.base.spec, config.data
    factory = getattr(base, "factory", None)
    if spec.weights is not None:
        weights = shared_of(config, recipe.artifacts)["base"]
        return BasePart(kind=base.kind, arguments={}, weights=weights)
    if spec.has_density:
        law = {
            "kind": data.kind,
            "factory": getattr(data, "factory", None),
            "arguments": section_arguments(data, DataSection),
        }
        arguments = section_arguments(base, BaseSection)
        return BasePart(kind=base.kind, arguments=arguments, factory=factory, data=law)
    arguments, digests = section_arguments(base, NetworkBase), {}
    if isinstance(base, DiffusersBase):
        folder = Path(base.path).expanduser().absolute()
        arguments = {"path": str(folder)}
        weights_files = sorted(diffusers_folders(folder)[0].glob("*.safetensors"))
        digests = {str(path): sha256_of(path) for path in weights_files}
    return BasePart(kind=base.kind, arguments=arguments, factory=factory, sha256=digests)


def _guidance(model: GuidedModel) -> dict[str, Any]:
    """Return the acting weight, which is half of that of the predictor stage, and its interval."""
    setting, weight = model.setting, model.calibrated
    value: Any
    if weight is None:
        assert setting.guidance_weight is not None
        value = setting.guidance_weight * (0.5 if setting.guided_stage == "predictor" else 1.0)
    else:
        value = {"sigmas": weight.knots.exp().tolist(), "weights": weight.values.tolist()}
    return {"weight": value, "interval": setting.interval and list(setting.interval)}

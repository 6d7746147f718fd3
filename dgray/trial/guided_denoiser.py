"""Guided denoiser of a run, with the description by which it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dgray.base.networks.facts import diffusers_folders
from dgray.catalogue import SAMPLERS
from dgray.catalogue.objects import PREFIX
from dgray.config.bases import BaseSection, DiffusersBase, NetworkBase
from dgray.config.data import DataSection
from dgray.config.parts import section_arguments
from dgray.config.training import DiscriminatorSection
from dgray.correction.guidance import Guidance
from dgray.discriminator.discriminator import Discriminator
from dgray.errors import GuidedModelError
from dgray.files import sha256_of
from dgray.guided.description import BasePart, Description, DiscriminatorPart, named_tensors
from dgray.guided.model import GuidedDenoiser, SampleDiscriminator
from dgray.guided.sampling import Sampling
from dgray.guided.space import SampleSpace
from dgray.plan.plan import Setting
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
    if not isinstance(model.correction, Guidance):
        raise GuidedModelError(
            "a denoiser can be taken from a run for guidance by a discriminator only, but this "
            f"model has the correction {recipe.trial.correction}; draw samples with dgray sample"
        )
    discriminator = model.correction.discriminator
    problem, setting, config = model.problem, model.setting, recipe.trial.config
    space = _space(problem)
    spec = config.evaluate.sampler_named(setting.sampler).spec
    is_built_in = spec in SAMPLERS.built_in
    values = _sampling_values(problem, setting)
    function = problem.evaluation.samplers[setting.sampler].function
    weight = acting_weight(setting, model.calibrated_weights)
    description = None
    if recipe.weights is not None:
        stored = values | {"sampler": setting.sampler}
        description = Description(
            space=space,
            discriminator=_discriminator_part(recipe, discriminator),
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
        discriminator=discriminator,
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


def sample_discriminator(guided: GuidedDenoiser) -> SampleDiscriminator:
    """Return the discriminator of a guided denoiser."""
    part = None if guided.description is None else guided.description.discriminator
    return SampleDiscriminator(guided.discriminator, guided.space, part)


def _is_object(section: Any) -> bool:
    """Return whether a part is a Python object, which is not stored and is given to the loader."""
    return str(getattr(section, "factory", "")).startswith(PREFIX)


def _discriminator_part(recipe: RunRecipe, member: Discriminator) -> DiscriminatorPart:
    config = recipe.trial.config
    section = config.discriminator
    return DiscriminatorPart(
        kind=section.kind,
        arguments=section_arguments(section, DiscriminatorSection),
        factory=None if _is_object(section) else getattr(section, "factory", None),
        seed=config.seed,
        replicate=recipe.replicate,
        tensors=named_tensors(member),
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

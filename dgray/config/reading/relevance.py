"""Fields that affect a trial: they define its id, and axes over them distinguish trials.

A field that cannot change the rows of a trial must not split it into two trials.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dgray.catalogue import CORRECTIONS, GUIDANCE, OBJECTIVES, SAMPLERS
from dgray.config.correction import Correction
from dgray.config.parts import BASE
from dgray.config.reading.diagnostics import FieldPath
from dgray.config.reading.schema import NEVER_AXES
from dgray.config.study import StudyConfig
from dgray.config.training import Fit

_OF_IMAGES = (
    "num_probes",
    "sampling_seeds",
    "features",
    "inception_weights",
    "reference",
    "num_single_features",
    "batch_size",
    "shard_size",
)
_ADDED: dict[
    str, dict[str, object]
] = {  # fields of later versions and their defaults, at which they are no part of an id
    "evaluate": {"num_single_features": 10_000},
    "base": {"precision": "float32"},
}
_ABSENT = object()
_GUIDANCE = ("guidance_weight", "guidance_interval", "guided_stage")


def irrelevant_fields(config: StudyConfig, objective: str) -> set[FieldPath]:
    """Return fields and sections that cannot change the rows of the trial of ``config``.

    Args:
        config: configuration of the trial.
        objective: ``BASE`` for the trial without a correction, else ``config.method``.
    """
    fields: set[FieldPath] = {(name,) for name in NEVER_AXES}
    used = {option for sampler in config.evaluate.sampler for option in sampler.spec.options}
    options = {option for sampler in SAMPLERS for option in sampler.options}
    fields |= {("evaluate", option) for option in options - used}
    is_calibrated = "calibrated" in config.evaluate.guidance_weight
    if config.evaluate.calibration == "least_squares" or not is_calibrated or objective == BASE:
        fields.add(("evaluate", "calibration"))
    if config.data.sample_kind == "points":
        fields |= {("evaluate", name) for name in _OF_IMAGES}
    if objective == BASE or config.correction.name == GUIDANCE:
        fields.add(("correction",))
    else:
        fields |= _irrelevant_options(config.correction)
    if objective != BASE and config.is_trained:
        return fields | _irrelevant_to_trained(config)
    spec = config.fit.objective.spec
    fields |= {
        ("replicates",),
        ("discriminator",),
        ("base", "num_generated"),
        ("data", "num_real"),
    }
    kept = () if objective == BASE else ("objective", *spec.options)
    fields |= {("fit", name) for name in Fit.model_fields if name not in kept}
    if objective == BASE:
        fields |= {("evaluate", name) for name in _GUIDANCE}
    return fields


def _irrelevant_options(correction: Correction) -> set[FieldPath]:
    """Return the options of other corrections."""
    options = {option for spec in CORRECTIONS for option in spec.options}
    return {("correction", option) for option in options - set(correction.spec.options)}


def _irrelevant_to_trained(config: StudyConfig) -> set[FieldPath]:
    fit, correction = config.fit, config.correction.spec
    options = {option for objective in OBJECTIVES for option in objective.options}
    if correction.needs_discriminator:
        options -= set(fit.objective.spec.options)
    else:
        options.add("objective")
    fields: set[FieldPath] = {("fit", option) for option in options}
    if not (correction.needs_discriminator or correction.needs_network):
        fields.add(("discriminator",))
    if not config.needs_generated:
        fields.add(("base", "num_generated"))
    is_normal = fit.noise.law == "log_normal"
    unused = ("low", "high") if is_normal else ("log_mean", "log_std")
    fields |= {("fit", "noise", name) for name in unused}
    if fit.patience == 0:
        fields.add(("fit", "validate_every"))
    return fields


def matters(path: FieldPath, irrelevant: Collection[FieldPath]) -> bool:
    """Return True if the field and all enclosing sections are relevant."""
    return not any(path[:end] in irrelevant for end in range(1, len(path) + 1))


def relevant_config(config: StudyConfig, objective: str) -> dict[str, Any]:
    """Return the resolved configuration as JSON values, without irrelevant fields."""
    irrelevant = irrelevant_fields(config, objective)
    values = config.model_dump(mode="json")
    values["fit"]["checkpoints"] = list(config.fit.checkpoint_epochs)
    if config.search.validated:  # these add columns; trials of a grid have none of them
        values["evaluate"]["validated"] = list(config.search.validated)
    return _pruned(without_added(values), (), irrelevant)


def without_added(values: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration without fields of later versions at their defaults."""
    return {
        section: {n: v for n, v in fields.items() if _ADDED[section].get(n, _ABSENT) != v}
        if section in _ADDED
        else fields
        for section, fields in values.items()
    }


def _pruned(
    section: dict[str, Any], prefix: FieldPath, irrelevant: set[FieldPath]
) -> dict[str, Any]:
    kept = {}
    for name, value in section.items():
        path = (*prefix, name)
        if matters(path, irrelevant):
            kept[name] = _pruned(value, path, irrelevant) if isinstance(value, dict) else value
    return kept

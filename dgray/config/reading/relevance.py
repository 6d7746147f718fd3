"""Which fields matter to which trial: what its id is made of, and which axes tell it from others.

A field that cannot change the rows of a trial must not make two trials of it.
"""

from __future__ import annotations

from typing import Any

from dgray.config.data import MixtureData
from dgray.config.reading.problem import FieldPath
from dgray.config.study import StudyConfig
from dgray.config.training import TRAINED_OBJECTIVES, Fit

BASE = "base"  # the objective of the trial that has no discriminator
WITH_GENERATED = ("cross_entropy", "mixed")  # objectives that train on generated samples


def irrelevant_fields(config: StudyConfig, objective: str) -> set[FieldPath]:
    """Fields and sections that cannot change the rows of the trial of ``config``."""
    fields: set[FieldPath] = {("name",), ("description",), ("search",), ("resources",)}
    if "churn" not in config.evaluate.sampler:
        fields.add(("evaluate", "churn"))
    if isinstance(config.data, MixtureData):
        fields |= {("evaluate", name) for name in _OF_IMAGES}
    if objective in TRAINED_OBJECTIVES:
        return fields | _irrelevant_to_trained(config)
    fields |= {
        ("replicates",),
        ("discriminator",),
        ("base", "num_generated"),
        ("data", "num_real"),
    }
    fields |= {("fit", name) for name in Fit.model_fields} - {
        ("fit", "objective"),
        ("fit", "oscillation"),
    }
    if objective != "oscillating":
        fields.add(("fit", "oscillation"))
    if objective == BASE:
        fields |= {("fit", "objective"), *_GUIDANCE}
    return fields


_OF_IMAGES = (
    "num_probes",
    "sampling_seeds",
    "features",
    "inception_weights",
    "reference",
    "batch_size",
    "shard_size",
)
_GUIDANCE: set[FieldPath] = {
    ("evaluate", "guidance_weight"),
    ("evaluate", "guidance_interval"),
    ("evaluate", "guided_stage"),
}


def _irrelevant_to_trained(config: StudyConfig) -> set[FieldPath]:
    fit = config.fit
    fields: set[FieldPath] = {("fit", "oscillation")}
    if fit.objective != "mixed":
        fields.add(("fit", "gamma"))
    if fit.objective != "cross_entropy":
        fields.add(("fit", "gradient_penalty"))
    if fit.objective not in WITH_GENERATED:
        fields.add(("base", "num_generated"))
    is_normal = fit.noise.law == "log_normal"
    unused = ("low", "high") if is_normal else ("log_mean", "log_std")
    fields |= {("fit", "noise", name) for name in unused}
    if fit.patience == 0:
        fields.add(("fit", "validate_every"))
    return fields


def matters(path: FieldPath, irrelevant: set[FieldPath]) -> bool:
    """Whether neither the field nor a section around it is irrelevant."""
    return not any(path[:end] in irrelevant for end in range(1, len(path) + 1))


def relevant_config(config: StudyConfig, objective: str) -> dict[str, Any]:
    """The resolved configuration as JSON values, without what cannot change the rows."""
    irrelevant = irrelevant_fields(config, objective)
    values = config.model_dump(mode="json")
    values["fit"]["checkpoints"] = list(config.fit.checkpoint_epochs)
    if config.search.validated:  # more columns; a grid's trials keep their ids
        values["evaluate"]["validated"] = list(config.search.validated)
    return _pruned(values, (), irrelevant)


def _pruned(
    section: dict[str, Any], prefix: FieldPath, irrelevant: set[FieldPath]
) -> dict[str, Any]:
    kept = {}
    for name, value in section.items():
        path = (*prefix, name)
        if matters(path, irrelevant):
            kept[name] = _pruned(value, path, irrelevant) if isinstance(value, dict) else value
    return kept

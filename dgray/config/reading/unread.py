"""Fields of a study file that no trial of the study reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dgray.config.bases import NetworkBase
from dgray.config.parts import BASE
from dgray.config.reading.diagnostics import FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.relevance import irrelevant_fields, matters
from dgray.config.reading.schema import NEVER_AXES, sections_of, walk
from dgray.config.study import StudyConfig

_PROBLEM = ("data", "base", "diffusion")  # described in full, whatever the methods need of it
_OF_FEATURES = ("features", "inception_weights", "reference", "num_single_features")


def unread_fields(document: Document, configs: Iterable[StudyConfig]) -> tuple[str, ...]:
    """Return the fields of methods and evaluation that no trial reads.

    Fields with their default value are left out, since ``study.lock.yaml`` has all fields.

    Args:
        document: study as written.
        configs: configurations of its trials, and of the points of its searches.
    """
    configs = list(configs)
    unread = {
        frozenset(_unread(config, objective))
        for config in configs
        for objective in (BASE, config.method)
    }
    return tuple(
        dotted(path)
        for path, field, _ in walk(document.values)
        if path[0] not in _PROBLEM
        and not sections_of(field.annotation)
        and not any(matters(path, fields) for fields in unread)
        and any(_value(config, path) != field.default for config in configs)
    )


def _unread(config: StudyConfig, objective: str) -> Iterator[FieldPath]:
    """Yield the fields and sections that a trial does not read.

    Some of them are a part of its id, which must not change.
    """
    fields = irrelevant_fields(config, objective) - {(name,) for name in NEVER_AXES}
    if config.replicates == 1:  # as every trial without training has
        fields.discard(("replicates",))
    yield from fields
    if objective == BASE or not config.is_trained:
        yield ("budget",)
    has_stages = any(sampler.spec.is_two_stage for sampler in config.evaluate.sampler)
    if objective == BASE or config.correction.spec.is_sampler or not has_stages:
        yield ("evaluate", "guided_stage")
    evaluate, is_image = config.evaluate, config.data.sample_kind == "images"
    if is_image and not evaluate.has_metric(source="features"):
        yield from (("evaluate", name) for name in _OF_FEATURES)
    if not isinstance(config.base, NetworkBase):
        yield from (("resources", name) for name in ("compile", "channels_last"))
    if not is_image:
        yield ("resources", "sampling_actors")
    if not (is_image and config.resources.sampling_actors):
        yield from (("resources", name) for name in ("cpus_per_actor", "gpus_per_actor"))


def _value(config: StudyConfig, path: FieldPath) -> object:
    value: object = config
    for name in path:
        value = getattr(value, str(name))
    return value

"""Rules between sections of the study: combinations that are impossible, each with its fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dgray.catalogue import (
    BASES,
    CORRECTIONS,
    DATA,
    DISCRIMINATORS,
    FEATURES,
    METRICS,
    OBJECTIVES,
    SAMPLERS,
    Kind,
    MetricSpec,
    Registry,
    SamplerSpec,
    Spec,
)
from dgray.config.bases import WrongMixture
from dgray.config.data import MixtureData
from dgray.config.mixtures import mixture_dimension
from dgray.config.reading.check_arguments import check_arguments
from dgray.config.reading.check_search import check_search
from dgray.config.reading.check_settings import check_settings
from dgray.config.reading.diagnostics import Conflict, FieldPath
from dgray.config.study import StudyConfig
from dgray.data.summary import counted

_DATA: tuple[FieldPath, ...] = (("data", "name"), ("data", "components"))
_METRICS: FieldPath = ("evaluate", "metrics")
_SAMPLER: FieldPath = ("evaluate", "sampler")
_OBJECTIVE: FieldPath = ("fit", "objective")
_CORRECTION: FieldPath = ("correction", "kind")
_KIND: FieldPath = ("data", "kind")
_OTHER_KIND: dict[Kind, Kind] = {"points": "images", "images": "points"}


def check(config: StudyConfig) -> Iterator[Conflict]:
    """Yield every impossible combination of the configuration of one trial."""
    for rule in _RULES:
        yield from rule(config)


def listed(names: Iterable[str]) -> str:
    """Return quoted names, as in ``'a', 'b' or 'c'``."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last


def _kinds(config: StudyConfig) -> Iterator[Conflict]:
    """Bases, discriminators and metrics that do not apply to the kind of the data."""
    kind = config.data.sample_kind
    named: list[tuple[FieldPath, Spec, Registry[Any]]] = [
        (("base", "kind"), config.base.spec, BASES),
        (_CORRECTION, config.correction.spec, CORRECTIONS),
        (("discriminator", "kind"), config.discriminator.spec, DISCRIMINATORS),
        *((_METRICS, metric.spec, METRICS) for metric in config.evaluate.metrics),
    ]
    for path, spec, registry in named:
        if kind not in spec.kinds:
            others = [other.name for other in registry if kind in other.kinds]
            yield Conflict(
                path=path,
                reads=(_KIND,),
                rule=f"'{spec.name}' needs {_OTHER_KIND[kind]}, but the data are {kind}; use "
                f"{listed(others)}",
            )


def _applicable_metrics(config: StudyConfig) -> list[MetricSpec]:
    specs = (metric.spec for metric in config.evaluate.metrics)
    return [spec for spec in specs if config.data.sample_kind in spec.kinds]


def _densities(config: StudyConfig) -> Iterator[Conflict]:
    """Objectives, metrics and bases that need a known density of the data or the base."""
    objective, base, data = config.fit.objective.spec, config.base.spec, config.data.spec
    needs_density = objective.needs_density and config.correction.spec.needs_discriminator
    exact = listed(spec.name for spec in DATA if spec.has_density)
    if needs_density and not data.has_density:
        yield Conflict(
            path=_OBJECTIVE,
            reads=(_KIND,),
            rule=f"'{objective.name}' needs the exact log-ratio, and data of kind "
            f"'{config.data.kind}' have no known density; remove it, or use data.kind {exact}",
        )
    elif needs_density and not base.has_density and "points" in base.kinds:
        exact_bases = listed(spec.name for spec in BASES if spec.has_density)
        yield Conflict(
            path=_OBJECTIVE,
            reads=(("base", "kind"),),
            rule=f"'{objective.name}' needs the exact log-ratio, and a base of kind "
            f"'{config.base.kind}' has no known density; use base.kind {exact_bases} or another "
            "objective",
        )
    if data.has_density or config.data.sample_kind == "images":
        return
    for metric in _applicable_metrics(config):
        if metric.needs_density:
            yield Conflict(
                path=_METRICS,
                reads=(_KIND,),
                rule=f"'{metric.name}' needs data of known density, which data of kind "
                f"'{config.data.kind}' are not; remove it, or use data.kind {exact}",
            )
    if base.has_density:
        yield Conflict(
            path=("base", "kind"),
            reads=(_KIND,),
            rule=f"'{config.base.kind}' needs data of known density; use data.kind {exact}, or "
            "another base",
        )


def _generated_samples(config: StudyConfig) -> Iterator[Conflict]:
    if not config.needs_generated or config.base.num_generated > 0:
        return
    objective, correction = config.fit.objective, config.correction
    if correction.spec.needs_generated:
        yield Conflict(
            path=("base", "num_generated"),
            reads=(_CORRECTION,),
            rule=f"must be > 0 for correction '{correction.name}', which is trained on generated "
            "samples, but got 0; raise it",
        )
        return
    others = (s.name for s in OBJECTIVES if s.is_trained and not s.needs_generated)
    yield Conflict(
        path=("base", "num_generated"),
        reads=(_OBJECTIVE,),
        rule=f"must be > 0 for objective '{objective.name}', which compares real with "
        f"generated samples, but got 0; raise it or use objective {listed(others)}",
    )


def _correction(config: StudyConfig) -> Iterator[Conflict]:
    """Corrections that the base does not allow."""
    correction, base = config.correction, config.base.spec
    if correction.spec.needs_parametric_base and not base.is_trainable:
        trainable = listed(spec.name for spec in BASES if spec.is_trainable)
        yield Conflict(
            path=_CORRECTION,
            reads=(("base", "kind"),),
            rule=f"'{correction.name}' trains copies of the base's network, and a base of kind "
            f"'{config.base.kind}' has none that dgray can train; use base.kind {trainable}, or "
            "another correction",
        )
    is_own = correction.spec in CORRECTIONS.built_in and correction.spec.needs_network
    if is_own and config.discriminator.spec.network is None:
        kinds = listed(spec.name for spec in DISCRIMINATORS if spec.network is not None)
        yield Conflict(
            path=_CORRECTION,
            reads=(("discriminator", "kind"),),
            rule=f"'{correction.name}' trains a network like that of the discriminator, and has "
            f"none like '{config.discriminator.spec.name}'; use discriminator.kind {kinds}, or "
            "another correction",
        )


def _metrics(config: StudyConfig) -> Iterator[Conflict]:
    """Metrics that are not defined for the samplers, the dimension or the number of samples."""
    evaluate, data = config.evaluate, config.data
    for spec in _applicable_metrics(config):
        if data.sample_kind == "points":
            if data.shape is not None and not spec.is_defined_in(data.shape[0]):
                yield Conflict(
                    path=_METRICS,
                    reads=_DATA,
                    rule=f"'{spec.name}' needs data of {spec.dimensions}, but the data "
                    f"has {data.shape[0]}; remove it",
                )
            if spec.needs_training and data.num_held_out < data.num_real:
                yield Conflict(
                    path=("data", "num_held_out"),
                    reads=(("data", "num_real"), _METRICS),
                    rule=f"must be >= data.num_real for '{spec.name}', which compares as many of "
                    f"either, but got {data.num_held_out} < {data.num_real}",
                )
        for path, size in (
            (("evaluate", "num_samples"), evaluate.num_samples),
            (("data", "num_held_out"), data.num_held_out),
        ):
            if size < spec.min_samples:
                yield Conflict(
                    path=path,
                    reads=(_METRICS,),
                    rule=f"must be >= {spec.min_samples} for '{spec.name}', but got {size}",
                )
    yield from _samplers_of_metrics(config)


def _samplers_of_metrics(config: StudyConfig) -> Iterator[Conflict]:
    suits: dict[str, tuple[str, Callable[[SamplerSpec], bool]]] = {
        "stochastic": ("a stochastic sampler", lambda sampler: sampler.is_stochastic),
        "flow": ("the deterministic sampler", lambda sampler: sampler.is_flow),
    }
    evaluate, metrics = config.evaluate, _applicable_metrics(config)
    for need, (title, is_suited) in suits.items():
        names = [repr(spec.name) for spec in metrics if spec.needs_sampler == need]
        if names and not any(is_suited(sampler.spec) for sampler in evaluate.sampler):
            suited = listed(spec.name for spec in SAMPLERS if is_suited(spec))
            together = " and ".join(names)
            yield Conflict(
                path=_METRICS,
                reads=(_SAMPLER,),
                rule=f"{together} need{'s' if len(names) == 1 else ''} {title}; add {suited} to "
                f"evaluate.sampler, which is {list(evaluate.sampler_names)}, or give "
                f"evaluate.metrics without {together}",
            )


def _features(config: StudyConfig) -> Iterator[Conflict]:
    """Metrics of features that do not fit the features or their reference."""
    evaluate = config.evaluate
    if config.data.sample_kind != "images":
        return
    metrics = [spec for spec in _applicable_metrics(config) if spec.source == "features"]
    is_inception = evaluate.features_spec.is_inception
    for spec in metrics:
        if spec.needs_inception not in (None, is_inception):
            others = [
                other.name
                for other in METRICS
                if other.needs_moments_only and other.needs_inception is is_inception
            ]
            scope = "Inception" if spec.needs_inception else "features other than Inception"
            inception = next(f.name for f in FEATURES.values() if f.is_inception)
            end = f"use {listed(others)}" + ("" if is_inception else f", or '{inception}'")
            yield Conflict(
                path=_METRICS,
                reads=(("evaluate", "features"),),
                rule=f"'{spec.name}' is defined for {scope} only, but evaluate.features is "
                f"'{evaluate.features}'; {end}",
            )
    needs_images = [spec.name for spec in metrics if not spec.needs_moments_only]
    if needs_images and evaluate.reference not in ("held_out", "training"):
        yield Conflict(
            path=("evaluate", "reference"),
            reads=(_METRICS,),
            rule=f"must be held_out or training for {', '.join(needs_images)}, which compare "
            f"image with image, but got '{evaluate.reference}'",
        )


def _base_dimension(config: StudyConfig) -> Iterator[Conflict]:
    base, data = config.base, config.data
    if not isinstance(base, WrongMixture) or not isinstance(data, MixtureData):
        return
    (dimension,) = data.shape
    own = mixture_dimension(base.of, base.components) or dimension
    if own != dimension:
        field = "components" if base.components is not None else "of"
        yield Conflict(
            path=("base", field),
            reads=_DATA,
            rule=f"must have the dimension of the data, but got {own} for {dimension}",
        )
    if isinstance(base.mean_shift, tuple) and len(base.mean_shift) != own:
        yield Conflict(
            path=("base", "mean_shift"),
            reads=(*_DATA, ("base", "of"), ("base", "components")),
            rule=f"must be a number or one number per dimension, but got "
            f"{counted(len(base.mean_shift), 'number')} for {counted(own, 'dimension')}",
        )


def _classes(config: StudyConfig) -> Iterator[Conflict]:
    """Conditional parts without classes, and a base whose classes are not those of the data."""
    base, count = config.base, config.data.num_classes
    if count is None:
        return
    for section in ("base", "discriminator"):
        if getattr(getattr(config, section), "conditional", False) and not count:
            yield Conflict(
                path=(section, "conditional"),
                reads=(_KIND, *_DATA),
                rule="must be false without classes, but is true; give every component of "
                "data.components a label",
            )
    if isinstance(base, WrongMixture) and base.conditional and count:
        own = base.own_classes
        if own not in (None, count):
            yield Conflict(
                path=("base", "conditional"),
                reads=(*_DATA, ("base", "components"), ("base", "of")),
                rule="needs a base with the "
                f"{counted(count, 'class', 'classes')} of the data, but it has {own}; label "
                "base.components",
            )


_RULES: tuple[Callable[[StudyConfig], Iterator[Conflict]], ...] = (
    _kinds,
    _densities,
    check_arguments,
    check_search,
    _generated_samples,
    _correction,
    _metrics,
    _features,
    _base_dimension,
    _classes,
    check_settings,
)

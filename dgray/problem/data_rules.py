"""Rules between a study and its data: sizes, classes, dimensions and features. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dgray.config.data import FileData, PointsData
from dgray.config.study import StudyConfig
from dgray.data.split_orders import split_orders
from dgray.data.summary import DataSummary
from dgray.errors import MissingFileError
from dgray.metrics.features.inception_file import find_weights, weights_file

MIN_CNN_IMAGES, MIN_CNN_CLASSES = 20, 2  # of a classifier whose features are compared


class Finding(NamedTuple):
    """Broken rule: its field, the rule, and whether it is about a file that is not here."""

    field: str
    rule: str
    is_missing: bool = False


Rule = Callable[[StudyConfig, DataSummary | None], Iterator[Finding]]


def is_installed(module: str) -> bool:
    """Return True if Python finds a module."""
    return importlib.util.find_spec(module) is not None


def _splits(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Splits that are larger than the data."""
    if summary is None:
        return
    data, count = config.data, summary.num_images
    apart = data.num_validation + data.num_held_out
    source = count if summary.num_test is None else summary.num_test
    noun = f"{summary.noun}s"
    part = noun if summary.num_test is None else f"test {noun}"
    if apart > source - (summary.num_test is None):
        yield Finding(
            "data.num_held_out",
            f"num_validation and num_held_out must leave {noun} for training, but they are "
            f"{data.num_validation} and {data.num_held_out} of the {source} {part} of "
            f"{summary.name}; lower them",
        )
        return
    pool = count - (apart if summary.num_test is None else summary.num_test)
    fields = {"data.num_real": data.num_real, "base.num_real": getattr(config.base, "num_real", 0)}
    for field, size in fields.items():
        if size > pool:
            yield Finding(
                field,
                f"must be at most {pool}, the {count} {noun} of {summary.name} without those for "
                f"validation and held-out metrics, but got {size}; lower it",
            )
    if summary.digests and max(fields.values()) <= pool:
        yield from _repeats(config, summary)


def _repeats(config: StudyConfig, summary: DataSummary) -> Iterator[Finding]:
    """Splits for which too few different samples are left."""
    data = config.data
    sizes = {
        "held_out": data.num_held_out,
        "validation": data.num_validation,
        "real": data.num_real,
        "base": getattr(config.base, "num_real", 0),
    }
    for name, order in split_orders(summary.digests, sizes, config.seed):
        if sizes[name] > len(order):
            yield Finding(
                "base.num_real" if name == "base" else f"data.num_{name}",
                f"must be at most {len(order)}, but got {sizes[name]}: only "
                f"{len(set(summary.digests))} of the {summary.num_images} {summary.noun}s of "
                f"{summary.name} are different, and identical ones are in one split; lower it, or "
                "another size",
            )
            return


def _labels(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Parts that need the classes of the images."""
    if summary is None or summary.classes is not None:
        return
    fix = "use data with classes"
    if isinstance(config.data, FileData | PointsData) and config.data.path is not None:
        fix = "set data.label" if summary.noun == "point" else "label the images"
    for section in ("base", "discriminator"):
        field = f"{section}.conditional"
        if getattr(getattr(config, section), "conditional", False):
            yield Finding(
                field,
                f"needs labels, but {summary.name} has none ({summary.classes_line}); set "
                f"{field}: false, or {fix}",
            )


def _dimension(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Metrics that are not defined in the dimension of the points of a file."""
    if summary is None or config.data.sample_kind != "points":
        return
    (dimension,) = summary.shape
    for metric in config.evaluate.metrics:
        if not metric.spec.is_defined_in(dimension):
            yield Finding(
                "evaluate.metrics",
                f"'{metric.name}' needs data of {metric.spec.dimensions}, but {summary.name} "
                f"has {dimension}; remove it, or choose data.columns",
            )


def _features(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Feature extractors that lack labels, weights or packages."""
    evaluate = config.evaluate
    if config.data.sample_kind != "images" or not evaluate.has_metric(source="features"):
        return
    features = evaluate.features_spec
    if features.is_trained and summary is not None:
        yield from _cnn(config, summary)
    if features.package and not is_installed(features.package):
        rule = f"{features.name} needs a package: pip install 'dgray[{features.extra}]'"
        yield Finding("evaluate.features", rule, is_missing=True)
    if features.is_inception:
        path = evaluate.inception_weights
        try:
            find_weights(
                weights_file(features.options["mode"]),
                None if path is None else Path(path).expanduser(),
            )
        except MissingFileError as error:
            yield Finding("evaluate.inception_weights", str(error), is_missing=True)
    reference = evaluate.reference
    if reference not in ("held_out", "training") and not Path(reference).expanduser().is_file():
        rule = f"must be held_out, training or an npz file, but there is no file {reference}"
        yield Finding("evaluate.reference", rule, is_missing=True)


def _cnn(config: StudyConfig, summary: DataSummary) -> Iterator[Finding]:
    others = "use efficientnet_lite0, an inception, your own module:function"
    if summary.classes is None:
        yield Finding(
            "evaluate.features",
            f"cnn is trained on labels, but {summary.name} has none ({summary.classes_line}); "
            f"{others}, or evaluate.metrics without features, such as [path_kl, memorisation]",
        )
        return
    data = config.data
    apart = data.num_validation + data.num_held_out
    pool = summary.num_images - (apart if summary.num_test is None else summary.num_test)
    if pool < MIN_CNN_IMAGES or len(summary.classes) < MIN_CNN_CLASSES:
        yield Finding(
            "evaluate.features",
            f"cnn needs at least {MIN_CNN_IMAGES} training images and {MIN_CNN_CLASSES} classes, "
            f"but {summary.name} has {pool} and {len(summary.classes)}; {others}",
        )


DATA_RULES: tuple[Rule, ...] = (_splits, _labels, _dimension, _features)

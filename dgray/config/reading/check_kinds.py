"""Rules on what points and images can be given: bases, discriminators, objectives, metrics."""

from __future__ import annotations

from collections.abc import Iterator

from dgray.config.data import MixtureData
from dgray.config.reading.finding import Finding
from dgray.config.reading.problem import FieldPath
from dgray.config.study import StudyConfig

METRICS_OF_POINTS = ("kl", "kl_sde", "kl_sampler")
METRICS_OF_FEATURES = ("fid", "fd", "kid", "precision", "recall", "density", "coverage")
METRICS_OF_IMAGES = ("nll", *METRICS_OF_FEATURES)
_FROM_STATISTICS = ("fid", "fd")  # need mean and covariance of the reference alone

_METRICS: FieldPath = ("evaluate", "metrics")
_KIND: FieldPath = ("data", "kind")


def check_kinds(config: StudyConfig) -> Iterator[Finding]:
    """Everything that the kind of the data rules out."""
    if isinstance(config.data, MixtureData):
        yield from _wrong_metrics(config, METRICS_OF_IMAGES, "images, and this study's are points")
        yield from _bases(config, ("edm", "diffusers"), "is of images; use 'wrong_mixture'")
        if config.discriminator.kind == "conv":
            yield Finding(
                path=("discriminator", "kind"),
                reads=(_KIND,),
                rule="'conv' is for images, and this study's are points; use 'mlp'",
            )
        return
    why = "data of known density, which images are not; use nll, fid or fd"
    yield from _wrong_metrics(config, METRICS_OF_POINTS, why)
    yield from _bases(config, ("wrong_mixture",), "is of points; use 'trained' or 'edm'")
    objective = config.fit.objective
    if objective in ("oracle", "oscillating"):
        yield Finding(
            path=("fit", "objective"),
            reads=(_KIND,),
            rule=f"'{objective}' needs the exact log-ratio, and images have no known density; "
            "remove it",
        )
    yield from _features(config)


def _wrong_metrics(config: StudyConfig, names: tuple[str, ...], needs: str) -> Iterator[Finding]:
    for metric in config.evaluate.metrics:
        if metric in names:
            yield Finding(path=_METRICS, reads=(_KIND,), rule=f"'{metric}' needs {needs}")


def _bases(config: StudyConfig, kinds: tuple[str, ...], reason: str) -> Iterator[Finding]:
    if config.base.kind in kinds:
        yield Finding(path=("base", "kind"), reads=(_KIND,), rule=f"'{config.base.kind}' {reason}")


def _features(config: StudyConfig) -> Iterator[Finding]:
    evaluate = config.evaluate
    is_inception = evaluate.features.startswith("inception")
    features: FieldPath = ("evaluate", "features")
    if "fid" in evaluate.metrics and not is_inception:
        yield Finding(
            path=_METRICS,
            reads=(features,),
            rule="'fid' is said of Inception's features only, but evaluate.features is "
            f"'{evaluate.features}'; use 'fd', or 'inception_clean'",
        )
    if "fd" in evaluate.metrics and is_inception:
        yield Finding(
            path=_METRICS,
            reads=(features,),
            rule=f"'fd' of features '{evaluate.features}' is called fid; write 'fid'",
        )
    needs_features = [
        metric
        for metric in METRICS_OF_FEATURES
        if metric in evaluate.metrics and metric not in _FROM_STATISTICS
    ]
    if needs_features and evaluate.reference not in ("held_out", "training"):
        yield Finding(
            path=("evaluate", "reference"),
            reads=(_METRICS,),
            rule=f"must be held_out or training for {', '.join(needs_features)}, which compare "
            f"image with image, but got '{evaluate.reference}'",
        )

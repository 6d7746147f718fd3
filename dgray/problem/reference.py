"""The reference that generated images are compared with in features, as an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from dgray.config.study import StudyConfig
from dgray.files import safetensors_metadata
from dgray.metrics.feature_statistics import FeatureStatistics, Moments
from dgray.metrics.features.extractor import FeatureExtractor, FeatureSource, extract
from dgray.metrics.frechet import frechet_distance
from dgray.plan.shared_keys import features_key, statistics_key
from dgray.problem.image_store import StoredImages

SPLITS = ("held_out", "training")


@dataclass(frozen=True)
class ImageReference:
    """Images that are not generated, in features.

    Attributes:
        source: which features.
        moments: mean and covariance.
        features: of each image, float32 (n, F); None where only their moments are known.
        count: n; None if unknown.
        floor: the Frechet distance of training images to them; None if they are those.
        validation: mean and covariance of the validation split.
    """

    source: FeatureSource
    moments: Moments
    features: Tensor | None
    count: int | None
    floor: float | None
    validation: Moments

    @staticmethod
    def read(config: StudyConfig, artifacts: Mapping[str, bytes]) -> ImageReference:
        """From the artifact that ``reference_features`` made, and the user's statistics if any."""
        content = artifacts[features_key(config)]
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        source = _source(content)
        training = FeatureStatistics.of(tensors["training"].numpy(), source).moments
        validation = FeatureStatistics.of(tensors["validation"].numpy(), source).moments
        reference = config.evaluate.reference
        if reference == "training":
            features = tensors["training"]
            return ImageReference(source, training, features, len(features), None, validation)
        known = tensors.get(reference)
        if known is not None:
            moments = FeatureStatistics.of(known.numpy(), source).moments
        else:
            moments = Moments.from_npz(artifacts[statistics_key(config)], source)
        floor = frechet_distance(
            training.mean, training.covariance, moments.mean, moments.covariance
        )
        count = None if known is None else len(known)
        return ImageReference(source, moments, known, count, floor, validation)


def import_statistics(config: StudyConfig, artifacts: Mapping[str, bytes]) -> bytes:
    """The npz file of ``evaluate.reference``, for the features of the study.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or of features of another dimension.
    """
    content = Path(config.evaluate.reference).expanduser().read_bytes()
    source = _source(artifacts[features_key(config)])
    dimension = len(Moments.from_npz(content, source).mean)
    if dimension != source.dimension:
        raise ValueError(
            f"evaluate.reference must hold statistics of {source.name}, {source.dimension} "
            f"numbers an image, but those of {config.evaluate.reference} are of {dimension}"
        )
    return content


def _source(features: bytes) -> FeatureSource:
    """What the artifact of ``reference_features`` holds features of."""
    return FeatureSource(**json.loads(safetensors_metadata(features)["source"]))


def reference_features(
    config: StudyConfig, stored: StoredImages, extractor: FeatureExtractor
) -> bytes:
    """Features of the held-out images and of all that training may use, whatever it does use."""
    rows = {
        "held_out": stored.images.rows["held_out"],
        "validation": stored.images.rows["validation"],
        "training": stored.pool,
    }
    tensors = {
        name: _features(stored, chosen, extractor, config.evaluate.batch_size)
        for name, chosen in rows.items()
    }
    return safetensors.torch.save(tensors, {"source": json.dumps(asdict(extractor.source))})


@torch.no_grad()
def _features(
    stored: StoredImages, rows: Tensor, extractor: FeatureExtractor, batch_size: int
) -> Tensor:
    images = stored.images.pixels[rows].unflatten(1, stored.shape)
    return extract(extractor, images, batch_size)

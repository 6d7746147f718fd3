"""Features: the extractor of a study, and the reference of generated images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from dgray.catalogue import FEATURES
from dgray.config.study import StudyConfig
from dgray.files import safetensors_metadata
from dgray.metrics.feature_statistics import FeatureStatistics, Moments
from dgray.metrics.features.cnn import fit_cnn
from dgray.metrics.features.custom import load_custom
from dgray.metrics.features.extractor import FeatureExtractor, FeatureSource, extract
from dgray.metrics.features.inception import load_inception
from dgray.metrics.features.inception_file import find_weights, weights_file
from dgray.metrics.frechet import frechet_distance
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_device


@dataclass(frozen=True)
class ImageReference:
    """Features of images that are not generated.

    Attributes:
        source: identity of the features.
        moments: mean and covariance.
        features: features of each image, float32 (n, F); None if only their moments are known.
        count: n; None if unknown.
        floor: Frechet distance of the training images to the reference; None if they are it.
        validation: features of the validation split, float32 (m, F).
    """

    source: FeatureSource
    moments: Moments
    features: Tensor | None
    count: int | None
    floor: float | None
    validation: Tensor

    @property
    def validation_moments(self) -> Moments:
        """Mean and covariance of the features of the validation split."""
        return FeatureStatistics.of(self.validation.numpy(), self.source).moments

    @staticmethod
    def read(reference: str, shared: Shared) -> ImageReference:
        """Read the reference from the artifacts of ``make_features`` and ``make_statistics``.

        ``reference``: ``held_out``, ``training``, or anything else for the user's statistics.
        """
        tensors, source = shared.tensors("features"), _source(shared["features"])
        training = FeatureStatistics.of(tensors["training"].numpy(), source).moments
        validation = tensors["validation"]
        features = tensors.get(reference)
        count = None if features is None else len(features)
        if reference == "training":
            return ImageReference(source, training, features, count, None, validation)
        if features is None:
            moments = Moments.from_npz(shared["statistics"], source)
        else:
            moments = FeatureStatistics.of(features.numpy(), source).moments
        floor = frechet_distance(
            training.mean, training.covariance, moments.mean, moments.covariance
        )
        return ImageReference(source, moments, features, count, floor, validation)


def import_statistics(config: StudyConfig, shared: Shared) -> bytes:
    """Return the content of the npz file that ``evaluate.reference`` names.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not such a file, or its features have another dimension.
    """
    content = Path(config.evaluate.reference).expanduser().read_bytes()
    source = _source(shared["features"])
    dimension = len(Moments.from_npz(content, source).mean)
    if dimension != source.dimension:
        raise ValueError(
            f"evaluate.reference must hold statistics of {source.name}, {source.dimension} "
            f"numbers an image, but those of {config.evaluate.reference} are of {dimension}"
        )
    return content


def reference_features(config: StudyConfig, shared: Shared) -> bytes:
    """Return features of the held-out, the validation and all other images, as safetensors.

    Of the other images all are used, so that the artifact does not depend on training splits.
    """
    stored = shared.images
    extractor = build_extractor(config, shared, build_device(config))
    rows = {
        "held_out": stored.images.rows["held_out"],
        "validation": stored.images.rows["validation"],
        "training": stored.pool,
    }
    with torch.no_grad():
        tensors = {
            name: extract(extractor, stored.pixels(chosen), config.evaluate.batch_size)
            for name, chosen in rows.items()
        }
    return safetensors.torch.save(tensors, {"source": json.dumps(asdict(extractor.source))})


def _source(features: bytes) -> FeatureSource:
    """Return the identity of the features in an artifact of ``reference_features``."""
    return FeatureSource(**json.loads(safetensors_metadata(features)["source"]))


def build_extractor(config: StudyConfig, shared: Shared, device: torch.device) -> FeatureExtractor:
    """Return the network in whose features images are compared."""
    features = config.evaluate.features_spec
    if features.name not in FEATURES:
        return load_custom(features.name, shared.images.shape, device)
    weights = {"weights": shared[features.artifact]} if features.artifact else {}
    extractor: FeatureExtractor = features.load()(device=device, **features.options, **weights)
    return extractor


def fit_extractor(config: StudyConfig, shared: Shared) -> bytes:
    """Return the CNN of ``evaluate.features: cnn``, trained on all images of the training pool.

    It is the same in all trials of a study, however few images their discriminators are given.

    Raises:
        ValueError: if the images have no labels.
    """
    stored = shared.images
    if stored.images.classes is None:
        raise ValueError(
            "evaluate.features 'cnn' is trained on labels, but the images have none; use "
            "'efficientnet_lite0', an inception, or your own extractor"
        )
    rows = stored.pool
    labels = stored.images.classes[rows]
    return fit_cnn(stored.pixels(rows), labels, stored.num_classes, seed=config.seed)


def import_inception(config: StudyConfig, shared: Shared) -> bytes:
    """Return the file of Inception's weights, located on this machine and loaded once as a test.

    Raises:
        FileNotFoundError: if it is absent; the message names the file and where to put it.
        ValueError: if its content is not what its name states.
    """
    mode = config.evaluate.features_spec.options["mode"]
    path = config.evaluate.inception_weights
    weights = find_weights(weights_file(mode), None if path is None else Path(path).expanduser())
    load_inception(mode, weights=weights)
    return weights.read_bytes()

"""Generated images in features: drawn shard by shard, scored against a reference.

Of each shard only features and the first few images are kept, so memory does not grow with the
number of samples. Images are rounded to bytes first, as saved ones are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgray.build_images import build_extractor
from dgray.config.check_kinds import METRICS_OF_FEATURES
from dgray.data.images import to_uint8, to_unit
from dgray.discriminator.discriminator import Discriminator
from dgray.evaluate import Calibrated, Columns, estimate_columns
from dgray.evaluate_samples import draw
from dgray.features.extractor import FeatureExtractor, extract
from dgray.image_features import ImageReference
from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.image_scores import frechet_estimate, score_features
from dgray.metrics.jackknife import GROUPS
from dgray.metrics.memorisation import image_memorisation
from dgray.plan import Setting
from dgray.problem import Problem, training_split

SHOWN = 64  # images of a setting that are kept to look at


@dataclass(frozen=True)
class DrawnImages:
    """What is kept of the samples of one setting.

    Attributes:
        shown: the first images, uint8 (k, d).
        vectors: all images in [-1, 1], float32 (n, d); None where memorisation is not asked for.
        features: float32 (n, F); None where no metric needs them.
        is_finite: whether every sample was; if not there is nothing to score.
    """

    shown: Tensor
    vectors: Tensor | None
    features: Tensor | None
    is_finite: bool


@dataclass(frozen=True)
class ImageScoring:
    """What generated images of a trial are scored with."""

    problem: Problem
    extractor: FeatureExtractor | None
    reference: ImageReference | None

    @staticmethod
    def build(problem: Problem, artifacts: Mapping[str, bytes]) -> ImageScoring:
        """Read it from the artifacts; nothing where no metric needs features."""
        config = problem.config
        if not set(METRICS_OF_FEATURES) & set(config.evaluate.metrics):
            return ImageScoring(problem, None, None)
        extractor = build_extractor(config, artifacts, problem.device)
        return ImageScoring(problem, extractor, ImageReference.read(config, artifacts))

    @torch.no_grad()
    def draw(
        self, discriminator: Discriminator, calibrated: Calibrated, settings: Sequence[Setting]
    ) -> dict[Setting, DrawnImages]:
        """``num_samples`` images of every setting, a shard of seeds at a time."""
        evaluate = self.problem.config.evaluate
        parts: dict[Setting, list[Tensor]] = {setting: [] for setting in settings}
        features: dict[Setting, list[Tensor]] = {setting: [] for setting in settings}
        diverged: set[Setting] = set()
        for start in range(0, evaluate.num_samples, evaluate.shard_size):
            seeds = range(start, min(start + evaluate.shard_size, evaluate.num_samples))
            drawn = draw(self.problem, discriminator, calibrated, settings, seeds)
            for setting, samples in drawn.items():
                if not bool(torch.isfinite(samples.samples).all()):
                    diverged.add(setting)
                pixels = to_uint8(samples.samples.nan_to_num(0.0, 1.0, -1.0))
                parts[setting].append(pixels.cpu())
                features[setting] += self._features(pixels)
        return {
            setting: self._kept(parts[setting], features[setting], setting not in diverged)
            for setting in settings
        }

    def _features(self, pixels: Tensor) -> list[Tensor]:
        if self.extractor is None:
            return []
        assert self.problem.shape is not None
        images = pixels.unflatten(1, self.problem.shape)
        return [extract(self.extractor, images, self.problem.config.evaluate.batch_size)]

    def _kept(self, pixels: list[Tensor], features: list[Tensor], is_finite: bool) -> DrawnImages:
        images = torch.cat(pixels)
        is_compared = "memorisation" in self.problem.config.evaluate.metrics
        return DrawnImages(
            images[:SHOWN],
            to_unit(images) if is_compared else None,
            torch.cat(features) if features else None,
            is_finite,
        )

    def score(self, images: DrawnImages, replicate: int, *, has_training: bool) -> Columns:
        """Columns of one setting of one replicate."""
        config = self.problem.config
        if not images.is_finite:
            return {"num_scored": 0}
        columns: Columns = {}
        if images.vectors is not None and has_training:
            training = self.problem.real(training_split(replicate), self.problem.num_real)
            held_out = self.problem.real("held_out", config.data.num_held_out)
            points = (t.float().cpu() for t in (training, held_out))
            found = image_memorisation(images.vectors, *points)
            columns |= estimate_columns("memorisation", found)
        if images.features is not None and self.reference is not None:
            columns |= self._feature_columns(images.features, self.reference)
        return columns

    def _feature_columns(self, features: Tensor, reference: ImageReference) -> Columns:
        config = self.problem.config
        source = reference.source
        distance = "fid" if config.evaluate.features.startswith("inception") else "fd"
        columns: Columns = {
            "num_scored": len(features),
            "num_reference": reference.count,
            "features": source.name,
            "features_resize": source.resize,
            "features_sha256": source.sha256,
            "reference": config.evaluate.reference,
            "fd_floor": reference.floor,
        }
        wanted = set(config.evaluate.metrics)
        if reference.features is None:
            array = features.numpy()
            groups = [FeatureStatistics.of(array[i::GROUPS], source) for i in range(GROUPS)]
            found = {distance: frechet_estimate(groups, reference.moments)}
        else:
            scores = score_features(
                reference.features,
                features,
                source,
                generator=np.random.Generator(np.random.Philox(config.seed)),
            )
            found = {**scores.estimates(), distance: scores.frechet}
        for name, value in found.items():
            if name in wanted:
                columns |= estimate_columns(name, value)
        return columns

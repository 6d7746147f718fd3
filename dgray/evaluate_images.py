"""Generated images in features: drawn shard by shard, scored against a reference.

Of each shard only features, scores and the first few images are kept. Features travel, not their
covariance: a shard of fewer images than features is smaller. Images are rounded to bytes first, as
saved ones are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dgray.build_images import build_extractor
from dgray.config.check_kinds import METRICS_OF_FEATURES
from dgray.data.images import to_uint8
from dgray.discriminator.discriminator import Discriminator
from dgray.evaluate import Calibrated, Columns, estimate_columns
from dgray.evaluate_samples import draw
from dgray.features.extractor import FeatureExtractor, extract
from dgray.image_features import ImageReference
from dgray.metrics.estimate import Estimate, between
from dgray.metrics.image_scores import frechet_estimate, in_groups, score_features
from dgray.metrics.memorisation import memorisation_scores
from dgray.plan import Setting
from dgray.problem import Problem, training_split

SHOWN = 64  # images of a setting that are kept to look at


@dataclass(frozen=True)
class ImageShard:
    """The images of some seeds at one setting, as far as anything needs them.

    Attributes:
        count: of seeds.
        pixels: uint8 (k, d), those that are shown.
        features: float32 (count, F); None where no metric needs them.
        memorisation: float64 (count,), the score of each; None where it is not asked for.
        is_finite: whether every sample was.
    """

    count: int
    pixels: Tensor
    features: Tensor | None
    memorisation: Tensor | None
    is_finite: bool


class RunShards(Protocol):
    """Who draws shards: this process, or actors (``dgray.engine.sampling_actors``)."""

    def __call__(
        self,
        discriminator: Discriminator,
        calibrated: Calibrated,
        settings: Sequence[Setting],
        shards: Sequence[range],
        replicate: int | None,
    ) -> Iterator[list[ImageShard]]:
        """For each shard in order, an ``ImageShard`` of every setting.

        ``replicate``: whose training images samples may repeat; None: nobody's.
        """
        ...


@dataclass(frozen=True)
class ShardWorker:
    """What draws and scores one shard after the other: one copy of base and extractor."""

    problem: Problem
    extractor: FeatureExtractor | None

    @staticmethod
    def build(problem: Problem, artifacts: Mapping[str, bytes]) -> ShardWorker:
        """With an extractor if some metric needs features."""
        config = problem.config
        needs = set(METRICS_OF_FEATURES) & set(config.evaluate.metrics)
        extractor = build_extractor(config, artifacts, problem.device) if needs else None
        return ShardWorker(problem, extractor)

    @torch.no_grad()
    def draw(
        self,
        discriminator: Discriminator,
        calibrated: Calibrated,
        settings: Sequence[Setting],
        seeds: range,
        replicate: int | None,
    ) -> list[ImageShard]:
        """One shard at every setting; see ``RunShards``."""
        drawn = draw(self.problem, discriminator, calibrated, settings, seeds)
        return [self._scored(drawn[setting].samples, seeds, replicate) for setting in settings]

    def _scored(self, samples: Tensor, seeds: range, replicate: int | None) -> ImageShard:
        evaluate = self.problem.config.evaluate
        pixels = to_uint8(samples.nan_to_num(0.0, 1.0, -1.0))
        features = None
        if self.extractor is not None:
            assert self.problem.shape is not None
            images = pixels.unflatten(1, self.problem.shape)
            features = extract(self.extractor, images, evaluate.batch_size)
        repeats = None
        if "memorisation" in evaluate.metrics and replicate is not None:
            training = self.problem.real_bytes(training_split(replicate), self.problem.num_real)
            held_out = self.problem.real_bytes("held_out", self.problem.config.data.num_held_out)
            points = (t.float() for t in (pixels.to(training.device), training, held_out))
            repeats = memorisation_scores(*points).cpu()
        shown = pixels[: max(0, SHOWN - seeds.start)].cpu()
        is_finite = bool(torch.isfinite(samples).all())
        return ImageShard(len(pixels), shown, features, repeats, is_finite)

    def run_shards(
        self,
        discriminator: Discriminator,
        calibrated: Calibrated,
        settings: Sequence[Setting],
        shards: Sequence[range],
        replicate: int | None,
    ) -> Iterator[list[ImageShard]]:
        """See ``RunShards``: here, one after the other."""
        for seeds in shards:
            yield self.draw(discriminator, calibrated, settings, seeds, replicate)


@dataclass(frozen=True)
class DrawnImages:
    """What is kept of the samples of one setting.

    Attributes:
        shown: the first images, uint8 (k, d).
        features: float32 (n, F); None where no metric needs them.
        memorisation: float64 (n,), the score of each; None where it is not asked for.
        is_finite: whether every sample was; if not there is nothing to score.
    """

    shown: Tensor
    features: Tensor | None
    memorisation: Tensor | None
    is_finite: bool


@dataclass(frozen=True)
class ImageScoring:
    """What generated images of a trial are drawn by and scored with."""

    problem: Problem
    run_shards: RunShards
    reference: ImageReference | None

    @staticmethod
    def build(
        problem: Problem, artifacts: Mapping[str, bytes], run_shards: RunShards | None = None
    ) -> ImageScoring:
        """Read it from the artifacts; without ``run_shards`` this process draws."""
        run_shards = run_shards or ShardWorker.build(problem, artifacts).run_shards
        config, reference = problem.config, None
        if set(METRICS_OF_FEATURES) & set(config.evaluate.metrics):
            reference = ImageReference.read(config, artifacts)
        return ImageScoring(problem, run_shards, reference)

    def draw(
        self,
        discriminator: Discriminator,
        calibrated: Calibrated,
        settings: Sequence[Setting],
        replicate: int | None = None,
    ) -> dict[Setting, DrawnImages]:
        """All images of every setting, set by set; ``replicate`` as of ``RunShards``.

        Raises:
            RuntimeError: fewer or more images came back than were asked for.
        """
        evaluate = self.problem.config.evaluate
        total = evaluate.num_samples * evaluate.sampling_seeds
        starts = range(0, total, evaluate.shard_size)
        shards = [range(s, min(s + evaluate.shard_size, total)) for s in starts]
        parts = list(self.run_shards(discriminator, calibrated, settings, shards, replicate))
        found = [[part.count for part in shard] for shard in parts]
        if found != [[len(seeds)] * len(settings) for seeds in shards]:
            raise RuntimeError(
                f"every shard must have an image of each of its seeds at each of {len(settings)} "
                f"settings, {[len(s) for s in shards]}, but the counts are {found}"
            )
        by_setting = zip(settings, zip(*parts, strict=True), strict=True)
        return {setting: self._joined(each) for setting, each in by_setting}

    def _joined(self, parts: Sequence[ImageShard]) -> DrawnImages:
        features = [part.features for part in parts if part.features is not None]
        repeats = [part.memorisation for part in parts if part.memorisation is not None]
        return DrawnImages(
            torch.cat([part.pixels for part in parts]),
            torch.cat(features) if features else None,
            torch.cat(repeats) if repeats else None,
            all(part.is_finite for part in parts),
        )

    def score(self, images: DrawnImages) -> Columns:
        """Columns of one setting of one replicate."""
        if not images.is_finite:
            return {"num_scored": 0}
        columns: Columns = {}
        if images.memorisation is not None:
            columns |= estimate_columns("memorisation", Estimate.of(images.memorisation))
        if images.features is not None and self.reference is not None:
            columns |= self._feature_columns(images.features, self.reference)
        return columns

    def distance_to_validation(self, features: Tensor) -> Estimate:
        """The Frechet distance of generated features to those of the validation split."""
        assert self.reference is not None  # a rule of the study file: the metric is asked for
        groups = in_groups(features, self.reference.source, has_error=True)
        return frechet_estimate(groups, self.reference.validation)

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
        sets = features.split(config.evaluate.num_samples)
        scores = [self._scores(each, reference, distance, len(sets) == 1) for each in sets]
        for name in set(scores[0]) & set(config.evaluate.metrics):
            columns |= estimate_columns(name, between([each[name] for each in scores]))
        return columns

    def _scores(
        self, features: Tensor, reference: ImageReference, distance: str, has_error: bool
    ) -> dict[str, Estimate]:
        """The scores of one set of samples that are asked for."""
        if reference.features is None:
            groups = in_groups(features, reference.source, has_error)
            return {distance: frechet_estimate(groups, reference.moments)}
        config = self.problem.config
        wanted = ["frechet" if name == distance else name for name in config.evaluate.metrics]
        scores = score_features(
            reference.features,
            features,
            reference.source,
            generator=np.random.Generator(np.random.Philox(config.seed)),
            wanted=wanted,
            moments=reference.moments,
            has_error=has_error,
        )
        found = scores.estimates()
        return found if scores.frechet is None else {**found, distance: scores.frechet}

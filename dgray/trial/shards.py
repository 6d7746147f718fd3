"""Shards of generated images: drawn, reduced to what their metrics read, and joined.

A shard is reduced to its first few images and to the mean and scatter of its features, merged in
the order of the shards in float64. Metrics that read single features get those of the first images
of a set (``evaluate.num_single_features``); if these are all, statistics are computed from them.
So memory does not grow with the number of images. Images are rounded to bytes first, as saved
images are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from dgray.config.study import StudyConfig
from dgray.data.images import to_uint8
from dgray.metrics.estimate import GROUPS
from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.features.extractor import FeatureExtractor, extract
from dgray.metrics.image_scores import ShardSum
from dgray.metrics.memorisation import memorisation_scores
from dgray.problem.artifacts import Shared
from dgray.problem.images import NUM_SHOWN, ImageProblem
from dgray.problem.problem import training_split
from dgray.problem.reference import build_extractor
from dgray.problem.settings import EvaluationSettings
from dgray.trial.sampling import DrawRequest, draw


@dataclass(frozen=True)
class ImageShard:
    """Images of some seeds at one setting, reduced to what their metrics read.

    Attributes:
        count: number of seeds.
        pixels: uint8 (k, d), the images that are shown, or all if a metric reads them.
        statistics: mean and scatter of the features of all images, in parts; empty if all features
            are kept, or if no metric reads them.
        features: float32 (k, F), those of single images; None if no metric reads them.
        memorisation: float64 (count,), score of each image; None if it is not computed.
        is_finite: whether every value of every sample was finite.
    """

    count: int
    pixels: Tensor
    statistics: tuple[FeatureStatistics, ...]
    features: Tensor | None
    memorisation: Tensor | None
    is_finite: bool


def keeps_all_features(evaluation: EvaluationSettings) -> bool:
    """Return whether the features of all images are kept, so that statistics follow from them.

    They are if a metric reads single features, or if there is one set with fewer shards than the
    groups of its standard error, unless there are too many images.
    """
    has_few_shards = evaluation.num_sets == 1 and len(evaluation.shards) < GROUPS
    is_small = evaluation.num_kept == evaluation.num_samples
    return is_small and (evaluation.reads_single_features or has_few_shards)


def shard_parts(evaluation: EvaluationSettings) -> int:
    """Return the number of parts of a shard's statistics: together at least one for each group."""
    if evaluation.num_sets > 1:
        return 1
    return -(-GROUPS // len(evaluation.shards))


def build_shard_worker(config: StudyConfig, problem: ImageProblem, shared: Shared) -> ShardWorker:
    """Build the worker of a study, with an extractor if a metric reads features."""
    extractor = None
    if problem.evaluation.of_source("features"):
        extractor = build_extractor(config, shared, problem.device)
    return ShardWorker(problem, extractor)


class RunShards(Protocol):
    """Drawing of shards: in this process or by actors (``dgray.engine.sampling_actors``)."""

    def __call__(
        self, request: DrawRequest, shards: Sequence[range]
    ) -> Iterator[list[ImageShard]]:
        """Yield for each shard, in order, an ``ImageShard`` of every setting.

        Args:
            request: what to draw.
            shards: seeds of the request, shard by shard.
        """
        ...


@dataclass(frozen=True)
class ShardWorker:
    """Worker that draws and reduces shards in order, with one copy of base and extractor."""

    problem: ImageProblem
    extractor: FeatureExtractor | None  # None if no metric reads features

    def run_shards(
        self, request: DrawRequest, shards: Sequence[range]
    ) -> Iterator[list[ImageShard]]:
        """Draw the shards in this process (see ``RunShards``)."""
        for seeds in shards:
            yield self.draw(replace(request, seeds=seeds))

    @torch.no_grad()
    def draw(self, request: DrawRequest) -> list[ImageShard]:
        """Draw one shard at every setting."""
        drawn = draw(self.problem, request)
        return [self._reduced(drawn[setting].samples, request) for setting in request.settings]

    def _reduced(self, samples: Tensor, request: DrawRequest) -> ImageShard:
        evaluation = self.problem.evaluation
        pixels = to_uint8(samples.nan_to_num(0.0, 1.0, -1.0))
        statistics, features = self._of_features(pixels, request.seeds[0])
        scores = None
        if "memorisation" in evaluation.names and request.replicate is not None:
            training = self.problem.real_stored(training_split(request.replicate))
            held_out = self.problem.real_stored("held_out")
            points = (t.float() for t in (pixels.to(training.device), training, held_out))
            scores = memorisation_scores(*points).cpu()
        is_finite = bool(torch.isfinite(samples).all())
        num_kept = max(0, NUM_SHOWN - request.seeds[0])
        if any(m.spec.source == "samples" for m in evaluation.metric_functions):
            num_kept = len(pixels)
        shown = pixels[:num_kept].cpu()
        return ImageShard(len(pixels), shown, statistics, features, scores, is_finite)

    def _of_features(
        self, pixels: Tensor, first: int
    ) -> tuple[tuple[FeatureStatistics, ...], Tensor | None]:
        """Return statistics of the features of the images from seed ``first``, and single ones."""
        evaluation = self.problem.evaluation
        if self.extractor is None:
            return (), None
        images = pixels.unflatten(1, self.problem.shape)
        features = extract(self.extractor, images, evaluation.batch_size)
        if keeps_all_features(evaluation):
            return (), features
        source, count = self.extractor.source, min(shard_parts(evaluation), len(features))
        array = features.numpy()
        statistics = [FeatureStatistics.of(array[i::count], source) for i in range(count)]
        kept = max(0, evaluation.num_kept - first % evaluation.num_samples)
        singles = features[:kept].clone() if evaluation.reads_single_features else None
        return tuple(statistics), singles


@dataclass(frozen=True)
class DrawnImages:
    """Images of one setting, reduced to what its metrics read.

    Attributes:
        pixels: the first images, uint8 (k, d); all of them if a metric reads them.
        features: float32 (n, F), those of the first images of each set; None if no metric reads
            those of single images.
        statistics: statistics of all images of each set; empty if they follow from ``features``,
            or if no metric reads them.
        memorisation: float64 (n,), score of each image; None if it is not computed.
        is_finite: whether every sample was finite; if not, nothing is scored.
    """

    pixels: Tensor
    features: Tensor | None
    statistics: tuple[ShardSum, ...]
    memorisation: Tensor | None
    is_finite: bool

    @property
    def shown(self) -> Tensor:
        """The images that the report shows, uint8 (k, d)."""
        return self.pixels[:NUM_SHOWN]


class ShardAccumulator:
    """Accumulator that joins the shards of one setting, added in order, into ``DrawnImages``."""

    def __init__(self, num_sets: int, shards_of_a_set: int) -> None:
        self._num_sets = num_sets
        self._shards_of_a_set = shards_of_a_set
        self._shards: list[ImageShard] = []
        self._statistics: list[ShardSum] = []

    def add(self, shard: ImageShard) -> None:
        """Add the next shard."""
        if shard.statistics and len(self._shards) % self._shards_of_a_set == 0:
            # The error of several sets is the spread between them.
            self._statistics.append(ShardSum(has_error=self._num_sets == 1))
        for part in shard.statistics:
            self._statistics[-1].add(part)
        self._shards.append(replace(shard, statistics=()))

    def images(self) -> DrawnImages:
        """Return the reduced images added so far."""
        features = [s.features for s in self._shards if s.features is not None]
        scores = [s.memorisation for s in self._shards if s.memorisation is not None]
        return DrawnImages(
            torch.cat([shard.pixels for shard in self._shards]),
            torch.cat(features) if features else None,
            tuple(self._statistics),
            torch.cat(scores) if scores else None,
            all(shard.is_finite for shard in self._shards),
        )

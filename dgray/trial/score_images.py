"""Generated images in features: drawn shard by shard, scored against a reference.

Of each shard only statistics and the first few images are kept: for ``fid`` and ``fd`` alone the
mean and scatter of its features, merged in the order of the shards in float64; where another score
looks at single images, the features themselves. Images are rounded to bytes first, as saved ones
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dgray.config.study import StudyConfig
from dgray.data.images import to_uint8
from dgray.discriminator.discriminator import Discriminator
from dgray.metrics.estimate import Estimate, between
from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.features.extractor import FeatureExtractor, extract
from dgray.metrics.image_scores import ShardSum, frechet_estimate, in_groups, score_features
from dgray.metrics.jackknife import GROUPS
from dgray.metrics.memorisation import memorisation_scores
from dgray.plan.plan import Setting
from dgray.problem.images import build_extractor
from dgray.problem.problem import Problem, training_split
from dgray.problem.reference import ImageReference
from dgray.trial.sampling import draw
from dgray.trial.score_discriminator import Calibrated, Columns, estimate_columns

SHOWN = 64  # images of a setting that are kept to look at


@dataclass(frozen=True)
class ImageShard:
    """The images of some seeds at one setting, as far as anything needs them.

    Attributes:
        count: of seeds.
        pixels: uint8 (k, d), those that are shown.
        features: their mean and scatter if those are enough, else float32 (count, F) (see
            ``needs_features``); None where no metric needs them.
        memorisation: float64 (count,), the score of each; None where it is not asked for.
        is_finite: whether every sample was.
    """

    count: int
    pixels: Tensor
    features: FeatureStatistics | Tensor | None
    memorisation: Tensor | None
    is_finite: bool


def needs_features(config: StudyConfig) -> bool:
    """Whether a score needs the features of single images, not their mean and scatter alone.

    All do but a Frechet distance; so does its error where images come in one set of fewer shards
    than the error has groups.
    """
    evaluate = config.evaluate
    if evaluate.has_metric(source="features", needs_moments_only=False):
        return True
    return evaluate.sampling_seeds == 1 and len(_shards_of_a_set(config)) < GROUPS


def _shards_of_a_set(config: StudyConfig) -> list[range]:
    """Seeds of the first set, shard by shard."""
    count, size = config.evaluate.num_samples, config.evaluate.shard_size
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


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
        needs = config.evaluate.has_metric(source="features")
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
        features: FeatureStatistics | Tensor | None = None
        if self.extractor is not None:
            assert self.problem.shape is not None
            images = pixels.unflatten(1, self.problem.shape)
            features = extract(self.extractor, images, evaluate.batch_size)
            if not needs_features(self.problem.config):
                features = FeatureStatistics.of(features.cpu().numpy(), self.extractor.source)
        repeats = None
        if "memorisation" in evaluate.metric_names and replicate is not None:
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
        features: float32 (n, F); None where no metric needs those of single images.
        statistics: of each set, from its shards; empty where there are features, or where no
            metric needs them.
        memorisation: float64 (n,), the score of each; None where it is not asked for.
        is_finite: whether every sample was; if not there is nothing to score.
    """

    shown: Tensor
    features: Tensor | None
    statistics: tuple[ShardSum, ...]
    memorisation: Tensor | None
    is_finite: bool


class _Joining:
    """The shards of one setting, in their order, on the way to ``DrawnImages``."""

    def __init__(self, num_sets: int, shards_of_a_set: int) -> None:
        self._num_sets = num_sets
        self._shards_of_a_set = shards_of_a_set
        self._num_shards = 0
        self._pixels: list[Tensor] = []
        self._features: list[Tensor] = []
        self._statistics: list[ShardSum] = []
        self._memorisation: list[Tensor] = []
        self._is_finite = True

    def add(self, shard: ImageShard) -> None:
        """The next one."""
        if isinstance(shard.features, FeatureStatistics):
            if self._num_shards % self._shards_of_a_set == 0:
                # Errors of several sets are the spread between them.
                self._statistics.append(ShardSum(has_error=self._num_sets == 1))
            self._statistics[-1].add(shard.features)
        elif shard.features is not None:
            self._features.append(shard.features)
        if shard.memorisation is not None:
            self._memorisation.append(shard.memorisation)
        self._pixels.append(shard.pixels)
        self._is_finite &= shard.is_finite
        self._num_shards += 1

    def images(self) -> DrawnImages:
        """Of all that were added."""
        return DrawnImages(
            torch.cat(self._pixels),
            torch.cat(self._features) if self._features else None,
            tuple(self._statistics),
            torch.cat(self._memorisation) if self._memorisation else None,
            self._is_finite,
        )


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
        if config.evaluate.has_metric(source="features"):
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
        config = self.problem.config
        of_a_set = _shards_of_a_set(config)
        starts = [index * config.evaluate.num_samples for index in range(self._num_sets)]
        shards = [range(s.start + at, s.stop + at) for at in starts for s in of_a_set]
        wanted = [[len(seeds)] * len(settings) for seeds in shards]
        joining = {setting: _Joining(self._num_sets, len(of_a_set)) for setting in settings}
        found = []
        for parts in self.run_shards(discriminator, calibrated, settings, shards, replicate):
            found.append([part.count for part in parts])
            if found != wanted[: len(found)]:
                break
            for setting, part in zip(settings, parts, strict=True):
                joining[setting].add(part)
        if found != wanted:
            raise RuntimeError(
                f"every shard must have an image of each of its seeds at each of {len(settings)} "
                f"settings, {[len(seeds) for seeds in shards]}, but the counts are {found}"
            )
        return {setting: each.images() for setting, each in joining.items()}

    @property
    def _num_sets(self) -> int:
        return self.problem.config.evaluate.sampling_seeds

    def score(self, images: DrawnImages) -> Columns:
        """Columns of one setting of one replicate."""
        if not images.is_finite:
            return {"num_scored": 0}
        columns: Columns = {}
        if images.memorisation is not None:
            columns |= estimate_columns("memorisation", Estimate.of(images.memorisation))
        if self.reference is not None:
            columns |= self._feature_columns(images, self.reference)
        return columns

    def distance_to_validation(self, images: DrawnImages) -> Estimate:
        """The Frechet distance of generated images to the validation split."""
        reference = self.reference
        assert reference is not None  # a rule of the study file: the metric is asked for
        if images.features is not None:
            groups = in_groups(images.features, reference.source, has_error=True)
            return frechet_estimate(groups, reference.validation)
        if self._num_sets == 1:
            return images.statistics[0].frechet(reference.validation)
        return frechet_estimate([s.whole for s in images.statistics], reference.validation)

    def _feature_columns(self, images: DrawnImages, reference: ImageReference) -> Columns:
        config = self.problem.config
        source = reference.source
        distance = "fid" if config.evaluate.features.startswith("inception") else "fd"
        columns: Columns = {
            "num_scored": config.evaluate.num_samples * self._num_sets,
            "num_reference": reference.count,
            "features": source.name,
            "features_resize": source.resize,
            "features_sha256": source.sha256,
            "reference": config.evaluate.reference,
            "fd_floor": reference.floor,
        }
        if images.features is None:
            scores = [{distance: s.frechet(reference.moments)} for s in images.statistics]
        else:
            sets = images.features.split(config.evaluate.num_samples)
            scores = [self._scores(each, reference, distance, len(sets) == 1) for each in sets]
        for name in set(scores[0]) & set(config.evaluate.metric_names):
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
        wanted = ["frechet" if name == distance else name for name in config.evaluate.metric_names]
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

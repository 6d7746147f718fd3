"""Scoring of the samples of a problem of images: in features, against a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from typing_extensions import override

from dgray.config.study import StudyConfig
from dgray.data.images import to_unit
from dgray.metrics.distances import nearest_index
from dgray.metrics.estimate import Estimate, between
from dgray.metrics.image_scores import frechet_estimate, in_groups, score_features
from dgray.plan.plan import Setting
from dgray.problem.artifacts import Shared
from dgray.problem.images import ImageProblem
from dgray.problem.problem import training_split
from dgray.problem.reference import ImageReference
from dgray.trial.sampling import Columns, DrawRequest, SampleScoring, ScoredSamples
from dgray.trial.score_correction import estimate_columns
from dgray.trial.shards import (
    DrawnImages,
    RunShards,
    ShardAccumulator,
    build_shard_worker,
    keeps_all_features,
)


@dataclass(frozen=True)
class ImageScoring(SampleScoring):
    """Scoring of images in features.

    Attributes:
        problem: data and base.
        run_shards: draws the images.
        reference: what features are compared with; None if no metric reads features.
    """

    problem: ImageProblem
    run_shards: RunShards
    reference: ImageReference | None

    @override
    def score(self, request: DrawRequest) -> dict[Setting, ScoredSamples]:
        scored = {}
        for setting, images in self.draw(request).items():
            columns = self.columns(images, setting)
            nearest = None
            if request.replicate == 0:
                training = self.problem.real_stored(training_split(0))
                shown = images.shown.to(training.device).float()
                nearest = training[nearest_index(shown, training.float())]
            scored[setting] = ScoredSamples(columns, images.shown, nearest)
        return scored

    def draw(self, request: DrawRequest) -> dict[Setting, DrawnImages]:
        """Draw all sets of images of every setting.

        Raises:
            RuntimeError: if the number of images is not the number of seeds.
        """
        evaluation = self.problem.evaluation
        shards = [
            range(first + shard.start, first + shard.stop)
            for first in range(
                0, evaluation.num_sets * evaluation.num_samples, evaluation.num_samples
            )
            for shard in evaluation.shards
        ]
        expected = [[len(seeds)] * len(request.settings) for seeds in shards]
        accumulators = {
            setting: ShardAccumulator(evaluation.num_sets, len(evaluation.shards))
            for setting in request.settings
        }
        counts: list[list[int]] = []
        for parts in self.run_shards(request, shards):
            counts.append([part.count for part in parts])
            if counts != expected[: len(counts)]:
                break
            for setting, part in zip(request.settings, parts, strict=True):
                accumulators[setting].add(part)
        if counts != expected:
            raise RuntimeError(
                f"every shard must have an image of each of its seeds at each of "
                f"{len(request.settings)} settings, {[len(seeds) for seeds in shards]}, but the "
                f"counts are {counts}"
            )
        return {setting: shard.images() for setting, shard in accumulators.items()}

    def columns(self, images: DrawnImages, setting: Setting) -> Columns:
        """Return the columns of one setting of one replicate."""
        if not images.is_finite:
            return {"num_scored": 0}
        columns: Columns = {}
        if images.memorisation is not None:
            columns |= estimate_columns("memorisation", Estimate.of(images.memorisation))
        if self.reference is not None:
            columns |= self._feature_columns(images, self.reference)
            columns |= self._validation_columns(images, self.reference)
        return columns | self._custom_columns(images, setting)

    def _feature_columns(self, images: DrawnImages, reference: ImageReference) -> Columns:
        evaluation = self.problem.evaluation
        source = reference.source
        columns: Columns = {
            "num_scored": evaluation.num_samples * evaluation.num_sets,
            "num_reference": reference.count,
            "features": source.name,
            "features_resize": source.resize,
            "features_sha256": source.sha256,
            "reference": evaluation.reference,
            "fd_floor": reference.floor,
        }
        if evaluation.reads_single_features:
            columns["num_single_features"] = evaluation.num_kept * evaluation.num_sets
        scores: list[dict[str, Estimate]] = [{} for _ in range(evaluation.num_sets)]
        if images.features is not None:
            sets = images.features.split(evaluation.num_kept)
            scores = [self._scores(features, reference, len(sets) == 1) for features in sets]
        for score, total in zip(scores, images.statistics, strict=bool(images.statistics)):
            score |= dict.fromkeys(self._distances, total.frechet(reference.moments))
        for name in scores[0]:
            columns |= estimate_columns(name, between([score[name] for score in scores]))
        return columns

    def _scores(
        self, features: Tensor, reference: ImageReference, has_error: bool
    ) -> dict[str, Estimate]:
        """Return the built-in scores of the features of one set of images, by metric."""
        evaluation = self.problem.evaluation
        metrics = [m for m in evaluation.of_source("features") if m.factory is None]
        if not keeps_all_features(evaluation):  # distances are of the statistics of all images
            metrics = [metric for metric in metrics if not metric.needs_moments_only]
        if reference.features is None:
            groups = in_groups(features, reference.source, has_error)
            return {name: frechet_estimate(groups, reference.moments) for name in self._distances}
        return score_features(
            features,
            reference.features,
            reference.source,
            metrics=[metric.name for metric in metrics],
            generator=np.random.Generator(np.random.Philox(self.problem.seed)),
            moments=reference.moments,
            has_error=has_error,
        )

    @property
    def _distances(self) -> list[str]:
        """Names of the requested Frechet distances."""
        metrics = self.problem.evaluation.of_source("features")
        return [metric.name for metric in metrics if metric.needs_moments_only]

    def _validation_columns(self, images: DrawnImages, reference: ImageReference) -> Columns:
        """Return Frechet distances to the validation split that a search reads."""
        columns: Columns = {}
        for metric in self.problem.evaluation.of_source("features"):
            if metric.name in self.problem.evaluation.validated and metric.needs_moments_only:
                estimate = self.distance_to_validation(images, reference)
                columns |= estimate_columns(f"validation_{metric.name}", estimate)
        return columns

    def distance_to_validation(self, images: DrawnImages, reference: ImageReference) -> Estimate:
        """Return the Frechet distance of generated images to the validation split."""
        validation = reference.validation_moments
        if not images.statistics:
            assert images.features is not None
            groups = in_groups(images.features, reference.source, has_error=True)
            return frechet_estimate(groups, validation)
        if len(images.statistics) == 1:
            return images.statistics[0].frechet(validation)
        return frechet_estimate([total.whole for total in images.statistics], validation)

    def _custom_columns(self, images: DrawnImages, setting: Setting) -> Columns:
        """Metrics that are functions of images, or of their features, and held-out ones."""
        evaluation = self.problem.evaluation
        columns: Columns = {}
        for column, metric, split in evaluation.comparisons(setting.sampler):
            generated, real = self._compared(images, metric.spec.source, split)
            is_sample = metric.spec.source == "samples"
            count = evaluation.num_samples if is_sample else evaluation.num_kept
            sets = generated.split(count)
            columns |= estimate_columns(
                column, between([metric(samples, real) for samples in sets])
            )
        return columns

    def _compared(self, images: DrawnImages, source: str, split: str) -> tuple[Tensor, Tensor]:
        """Return generated and real images in [-1, 1], or the features of both."""
        if source == "samples":
            return to_unit(images.pixels), self.problem.real(split).float()
        assert self.reference is not None
        assert images.features is not None
        features = self.reference.validation
        if split == "held_out":
            assert self.reference.features is not None  # a rule of the study file
            features = self.reference.features
        return images.features, features


def build_image_scoring(
    config: StudyConfig,
    problem: ImageProblem,
    shared: Shared,
    run_shards: RunShards | None = None,
) -> ImageScoring:
    """Build the scoring of a study of images; without ``run_shards`` this process draws."""
    run_shards = run_shards or build_shard_worker(config, problem, shared).run_shards
    reference = None
    if problem.evaluation.of_source("features"):
        reference = ImageReference.read(problem.evaluation.reference, shared)
    return ImageScoring(problem, run_shards, reference)

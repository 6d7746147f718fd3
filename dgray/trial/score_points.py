"""Scoring of the samples of a problem of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import with_labels
from dgray.metrics.estimate import Estimate
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.image_scores import score_features
from dgray.metrics.memorisation import memorisation
from dgray.metrics.neighbours import NeighbourReference, jackknife
from dgray.metrics.sampler_divergence import SampledDensity
from dgray.plan.plan import Setting
from dgray.problem.points import ExactPointProblem, PointProblem
from dgray.problem.problem import training_split
from dgray.trial.sampling import (
    Columns,
    DrawRequest,
    Proposals,
    SamplerSettings,
    SampleScoring,
    ScoredSamples,
    draw,
    draw_unguided,
    sample_labels,
)
from dgray.trial.score_correction import estimate_columns

RAW = "fd_raw"  # features of points: their coordinates


@dataclass(frozen=True)
class PointScoring(SampleScoring):
    """Scoring of points against held-out points, and against validation points for a search.

    Attributes:
        problem: data and base.
        held_out: held-out points, at most as many as samples; None unless ``kl_sde`` is computed.
        floor: ``kl_sde`` of as many new samples of the data itself.
        base: jackknife values of ``kl_sde`` of the base, by stochastic sampler.
        validation: validation points, likewise; None unless a search reads ``kl_sde``.
        proposals: proposals of a selection.
    """

    problem: PointProblem
    held_out: NeighbourReference | None
    floor: Estimate | None
    base: Mapping[SamplerSettings, Tensor]
    validation: NeighbourReference | None
    proposals: Proposals

    @staticmethod
    def build(problem: PointProblem, settings: Sequence[Setting]) -> PointScoring:
        """Compute what all checkpoints of a trial are scored against."""
        evaluation = problem.evaluation
        count = evaluation.num_samples
        validation, proposals = None, Proposals(problem, evaluation.seeds)
        if "kl_sde" in evaluation.validated:
            validation = NeighbourReference.of(problem.real("validation")[:count])
        if "kl_sde" not in evaluation.names:
            return PointScoring(problem, None, None, {}, validation, proposals)
        held_out = NeighbourReference.of(problem.real("held_out")[:count])
        floor = jackknife(held_out.kl_values(problem.real_samples.take("floor", count)))
        samplers = evaluation.samplers
        stochastic = {
            SamplerSettings.of(s).unguided for s in settings if samplers[s.sampler].is_stochastic
        }
        base = {
            sampler: held_out.kl_values(draw_unguided(problem, sampler, range(count)))
            for sampler in stochastic
        }
        return PointScoring(problem, held_out, floor, base, validation, proposals)

    @override
    def score(self, request: DrawRequest) -> dict[Setting, ScoredSamples]:
        scored = {}
        has_density = "kl_sampler" in self.problem.evaluation.names
        samples = draw(self.problem, request, with_density=has_density, proposals=self.proposals)
        for setting, drawn in samples.items():
            columns = {
                **self._stochastic_columns(setting, drawn.samples),
                **self._density_columns(drawn.density),
                **self._feature_columns(drawn.samples),
                **self._custom_columns(setting, drawn.samples),
            }
            if request.replicate is not None and "memorisation" in self.problem.evaluation.names:
                columns |= self._memorisation_columns(drawn.samples, request.replicate)
            scored[setting] = ScoredSamples(columns, drawn.samples)
        return scored

    def _stochastic_columns(self, setting: Setting, samples: Tensor) -> Columns:
        """Nearest-neighbour KLs of a stochastic sampler."""
        columns: Columns = {}
        if not self.problem.evaluation.samplers[setting.sampler].is_stochastic:
            return columns
        if self.held_out is not None:
            assert self.floor is not None
            values = self.held_out.kl_values(samples)
            change = values - self.base[SamplerSettings.of(setting).unguided]
            columns |= estimate_columns("kl_sde", jackknife(values))
            columns |= estimate_columns("kl_sde_change", jackknife(change))
            columns |= estimate_columns("kl_sde_floor", self.floor)
        if self.validation is not None:
            values = self.validation.kl_values(samples)
            columns |= estimate_columns("validation_kl_sde", jackknife(values))
        return columns

    def _feature_columns(self, samples: Tensor) -> Columns:
        """Scores of the coordinates themselves, in place of the features of images."""
        evaluation, count = self.problem.evaluation, len(samples)
        metrics = [m for m in evaluation.of_source("features") if m.factory is None]
        if not metrics or not bool(torch.isfinite(samples).all()):
            return {}
        source = FeatureSource(RAW, self.problem.dimension, resize="", sha256="")
        real = self.problem.real("held_out")
        columns: Columns = {"features": RAW, "num_scored": count, "num_reference": len(real)}
        generator = np.random.Generator(np.random.Philox(self.problem.seed))
        names = [metric.name for metric in metrics]
        scores = score_features(samples, real, source, metrics=names, generator=generator)
        for name in names:
            columns |= estimate_columns(name, scores[name])
        for metric in metrics:
            if metric.name in evaluation.validated and metric.needs_moments_only:
                validation = score_features(
                    samples,
                    self.problem.real("validation"),
                    source,
                    metrics=[metric.name],
                    generator=generator,
                )
                columns |= estimate_columns(f"validation_{metric.name}", validation[metric.name])
        return columns

    def _density_columns(self, density: SampledDensity | None) -> Columns:
        """Reverse KL of a deterministic sampler from the density of its distribution."""
        if density is None:
            return {}
        assert isinstance(self.problem, ExactPointProblem)  # a rule of the study file
        folded = float(density.folded.double().mean())
        if folded > 0:
            return {"kl_sampler_folded": folded}
        law = density.log_density
        labels = sample_labels(self.problem, self.problem.evaluation.seeds)
        target_law = with_labels(self.problem.law, labels)
        target = target_law.log_prob(density.samples, torch.zeros_like(law))
        estimate = Estimate.of(law - target)
        return {"kl_sampler_folded": folded, **estimate_columns("kl_sampler", estimate)}

    def _memorisation_columns(self, samples: Tensor, replicate: int) -> Columns:
        """Memorisation of the replicate's training points."""
        training = self.problem.real(training_split(replicate))
        held_out = self.problem.real("held_out")
        return estimate_columns("memorisation", memorisation(samples, training, held_out))

    def _custom_columns(self, setting: Setting, samples: Tensor) -> Columns:
        """Metrics that are functions of samples and of points of the data."""
        columns: Columns = {}
        for column, metric, split in self.problem.evaluation.comparisons(setting.sampler):
            columns |= estimate_columns(column, metric(samples, self.problem.real(split)))
        return columns

"""Plain values that scoring and sampling read, resolved from the study file by the builders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dgray.catalogue import MetricSpec, SamplerSpec
from dgray.diffusion.sampler import Sampler
from dgray.errors import MetricError
from dgray.metrics.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """Number of samples in each split.

    Attributes:
        num_real: real training samples of a replicate, mirror images included.
        num_generated: generated training samples of a replicate, >= 0.
        num_validation: real and generated validation samples each.
        num_held_out: real and generated held-out samples each.
    """

    num_real: int
    num_generated: int
    num_validation: int
    num_held_out: int

    def real(self, split: str) -> int:
        """Return the number of real samples of a split."""
        return self._size(split, self.num_real)

    def generated(self, split: str) -> int:
        """Return the number of generated samples of a split."""
        return self._size(split, self.num_generated)

    def _size(self, split: str, training: int) -> int:
        fixed = {"validation": self.num_validation, "held_out": self.num_held_out}
        return fixed.get(split, training)


@dataclass(frozen=True, kw_only=True)
class StudySampler:
    """Sampler of a study with its options.

    Attributes:
        function: the algorithm.
        options: its keyword arguments.
        is_stochastic: whether its steps draw noise.
        is_flow: whether it is Heun's method on the probability-flow ODE.
        spec: its specification.
    """

    spec: SamplerSpec
    function: Sampler
    options: Mapping[str, Any]
    is_stochastic: bool
    is_flow: bool

    def num_draws(self, num_steps: int) -> int:
        """Return how many times a sample draws noise in its steps."""
        return self.spec.num_draws(num_steps, self.options)

    def num_calls(self, num_steps: int) -> int:
        """Return the denoiser calls of a sample."""
        return self.spec.num_calls(num_steps, self.options)


@dataclass(frozen=True, kw_only=True)
class MetricFunction:
    """Metric that is a function of generated and of real samples, or of their features.

    Attributes:
        spec: its specification.
        function: called with two float tensors, generated (n, d) and real (m, d); it returns an
            estimate with its standard error.
    """

    spec: MetricSpec
    function: Callable[[Tensor, Tensor], Estimate]

    def __call__(self, generated: Tensor, real: Tensor) -> Estimate:
        """Return the estimate for generated (n, d) and real (m, d) samples.

        Raises:
            MetricError: if the function returns anything but an estimate that is a number.
        """
        estimate = self.function(generated.clone(), real.clone())  # which it may change
        name = self.spec.name
        if not isinstance(estimate, Estimate):
            raise MetricError(
                f"the metric {name} must return a dgray.metrics.estimate.Estimate, but returned "
                f"{type(estimate).__name__}"
            )
        try:
            value = float(estimate.value)
        except (TypeError, ValueError, RuntimeError):
            value = math.nan
        if math.isnan(value):
            raise MetricError(f"the value of the metric {name} must be a number, but is not")
        return estimate


def applies_to(metric: MetricSpec, sampler: StudySampler) -> bool:
    """Return whether a metric is defined for the samples of a sampler."""
    return {
        "any": True,
        "stochastic": sampler.is_stochastic,
        "flow": sampler.is_flow,
    }[metric.needs_sampler]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of the study file for scoring a checkpoint.

    Attributes:
        metrics: specifications of the requested metrics.
        metric_functions: those of them that are functions of samples or features.
        validated: names of the metrics that are also computed on the validation split.
        reference: images that features are compared with: ``held_out``, ``training`` or the path
            of a file of statistics.
        samplers: samplers of the study by name.
        rho: spacing of a sampler's noise levels (Karras et al. 2022, Eq. 5).
        num_samples: samples of a set, >= 1.
        num_sets: sets of samples that are scored separately, >= 1.
        shard_size: images that are drawn and scored at a time, >= 1.
        num_single_features: images of a set whose single features are kept, if a metric reads
            those, >= 1.
        batch_size: images that a network processes at a time, >= 1.
        num_bins: noise-level bins of the noised splits, equal in log sigma, >= 1.
        sigmas_per_bin: stratified noise levels per bin, >= 1.
        refines_held_out: whether the held-out split has more of them where the path KL needs them.
        num_noised: samples of a split that are noised; None: all of them.
        num_points: points of a split whose log-likelihood is integrated, >= 1.
        num_probes: Hutchinson probes where the exact trace is too expensive, >= 1.
        tolerance: numerical error of the log-density of a point, in nats, > 0.
        max_steps: steps of the ODE after which a point counts as not converged, >= 1.
        calibration: what the calibrated weight minimises.
    """

    metrics: tuple[MetricSpec, ...]
    metric_functions: tuple[MetricFunction, ...]
    validated: tuple[str, ...]
    reference: str
    samplers: Mapping[str, StudySampler]
    rho: float
    num_samples: int
    num_sets: int
    shard_size: int
    num_single_features: int
    batch_size: int
    num_bins: int
    sigmas_per_bin: int
    refines_held_out: bool
    num_noised: int | None
    num_points: int
    num_probes: int
    tolerance: float
    max_steps: int
    calibration: Literal["least_squares", "mmd"]

    @property
    def names(self) -> set[str]:
        """Names of the requested metrics."""
        return {metric.name for metric in self.metrics}

    @property
    def seeds(self) -> range:
        """Seeds of all sets of samples."""
        return range(self.num_sets * self.num_samples)

    @property
    def shards(self) -> list[range]:
        """Seeds of the first set, shard by shard."""
        count, size = self.num_samples, self.shard_size
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    @property
    def reads_single_features(self) -> bool:
        """True if a metric reads the features of single images, not their mean and scatter."""
        return any(not metric.needs_moments_only for metric in self.of_source("features"))

    @property
    def num_kept(self) -> int:
        """Images of a set whose single features are kept if a metric reads those."""
        return min(self.num_samples, self.num_single_features)

    def of_source(self, source: str) -> list[MetricSpec]:
        """Return the requested metrics that are computed from a source."""
        return [metric for metric in self.metrics if metric.source == source]

    def comparisons(self, sampler: str) -> Iterator[tuple[str, MetricFunction, str]]:
        """Yield column, metric and split of the data of each function of samples or features."""
        for metric in self.metric_functions:
            spec = metric.spec
            if applies_to(spec, self.samplers[sampler]):
                yield spec.name, metric, "held_out"
                if spec.name in self.validated and spec.validation is not None:
                    yield spec.validation, metric, "validation"

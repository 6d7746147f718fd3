"""Comparability of two runs: metrics that can be compared, and random numbers that are shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dgray.reporting.compare.studies import ComparedRun, treatments
from dgray.reporting.presentation import distances, divergences, metrics

_SIZES = ("data.num_real", "data.num_validation", "data.num_held_out")  # not the distribution
_RANGE = ("diffusion.sigma_min", "diffusion.sigma_max")
_PRIOR = ("diffusion.prior_std",)
_SAMPLES = ("evaluate.num_samples", "evaluate.sampling_seeds")
_FEATURES = (
    "evaluate.features",
    "evaluate.features_resize",
    "evaluate.reference",
    "evaluate.inception_weights",
    "evaluate.num_single_features",
)
# Fields that determine the held-out points, their noise, and the samples of a metric.
_POINTS = ("seed", "data.num_held_out", *_RANGE)
_OF_SOURCE = {
    "path": ("evaluate.num_bins", "evaluate.sigmas_per_bin", "evaluate.num_noised"),
    "flow": ("evaluate.num_points", "evaluate.num_probes", "diffusion.prior_std"),
    "samples": ("evaluate.num_samples", "evaluate.churn", "evaluate.restart", *_PRIOR),
    "features": ("evaluate.num_samples", "evaluate.churn", "evaluate.restart", *_PRIOR),
}


@dataclass(frozen=True)
class Pairing:
    """Properties that two runs share.

    Attributes:
        different: fields in which no trial of one run agrees with one of the other.
    """

    different: tuple[str, ...]

    @property
    def has_same_seeds(self) -> bool:
        """True if replicates of the same number share their random numbers."""
        return "seed" not in self.different

    @property
    def has_same_base(self) -> bool:
        """True if the guided models of both correct the same base."""
        sections = ("base.", "diffusion.")
        return self.has_same_seeds and not any(p.startswith(sections) for p in self.different)

    def refusal(self, metric: str) -> str:
        """Return why a metric cannot be compared; empty if it can."""
        data = [p for p in self.different if p.startswith("data.") and p not in _SIZES]
        if data:
            return f"{_differ(data)}: the values are distances to different data"
        source = {spec.name: spec.source for spec in metrics()}[metric]
        rules = {
            "path": (_RANGE, "the path KL is an integral over the noise levels"),
            "samples": (_SAMPLES, "the bias of the estimate depends on the number of samples"),
            "features": (
                (*_SAMPLES, *_FEATURES, "data.num_held_out"),
                "the bias of the estimate depends on the samples, the reference and the features",
            ),
        }
        fields, reason = rules.get(source, ((), ""))
        differing = [path for path in self.different if path in fields]
        return f"{_differ(differing)}: {reason}" if differing else ""

    def has_same_points(self, metric: str) -> bool:
        """Return whether a metric is evaluated on the same points and noise in both runs."""
        source = {spec.name: spec.source for spec in metrics()}[metric]
        fields = (*_POINTS, *_OF_SOURCE.get(source, ()))
        return not any(path.startswith(fields) for path in self.different)

    def column(self, metric: str, columns: Sequence[set[str]]) -> str:
        """Return the column whose differences compare two models; empty if there is none.

        Of the same base on the same points, differences of changes are differences of values, and
        their errors are smaller. Other divergences are compared by their values, if these are
        known.

        Args:
            metric: name of the metric.
            columns: columns that have values, of each run.
        """
        change = f"{metric}_change"
        is_paired = self.has_same_base and self.has_same_points(metric)
        names = [change, metric] if metric in divergences() and is_paired else [metric]
        return next((name for name in names if all(name in present for present in columns)), "")


def pairing(one: ComparedRun, other: ComparedRun) -> Pairing:
    """Return what two runs share."""
    return Pairing(treatments(one, other))


def compared_metrics(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the divergences and distances that at least two runs have."""
    counts = dict.fromkeys((*divergences(), *distances()), 0)
    for run in runs:
        rows = run.contents.table.rows
        rows = rows[rows["status"] == "ok"]
        for name in counts:
            present = [c for c in (name, f"{name}_change") if c in rows and rows[c].notna().any()]
            counts[name] += bool(present)
    return [name for name, count in counts.items() if count > 1]


def _differ(paths: Sequence[str]) -> str:
    return f"{', '.join(paths)} {'differs' if len(paths) == 1 else 'differ'}"

"""What a search looks at: the metrics it optimises, on the validation split.

Held-out columns are only reported; these have their names with ``validation_`` before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dgray.metrics.neighbours import NeighbourReference, jackknife
from dgray.plan.plan import Setting
from dgray.plan.shared_keys import likelihood_key
from dgray.problem.problem import Problem
from dgray.trial.sampling import STOCHASTIC
from dgray.trial.score_discriminator import Columns, Reference, estimate_columns
from dgray.trial.score_images import DrawnImages, ImageScoring


@dataclass(frozen=True)
class Validation:
    """What a search needs of a trial; empty for a grid.

    Attributes:
        wanted: metrics that are optimised or constrained.
        reference: validation points and the base's likelihoods there.
        neighbours: validation points, for the KL of stochastic samples.
    """

    wanted: tuple[str, ...]
    reference: Reference | None
    neighbours: NeighbourReference | None

    @staticmethod
    def build(problem: Problem, artifacts: Mapping[str, bytes]) -> Validation:
        """Compute it once for a trial."""
        config = problem.config
        wanted = config.search.validated
        reference = neighbours = None
        if config.search.needs_flow:
            key = likelihood_key(config, "validation")
            reference = Reference.read(problem, artifacts[key], "validation")
        if "kl_sde" in wanted:
            points = problem.real("validation", config.data.num_validation)
            neighbours = NeighbourReference.of(points[: config.evaluate.num_samples])
        return Validation(wanted, reference, neighbours)

    def of_flow(self, columns: Columns) -> Columns:
        """Of what ``score_flow`` found at validation points, the metrics that are wanted."""
        names = [name for metric in self.wanted for name in (metric, f"{metric}_se")]
        return {f"validation_{name}": columns[name] for name in names if name in columns}

    def of_samples(self, setting: Setting, samples: Tensor) -> Columns:
        """The KL of the samples of a stochastic sampler."""
        if self.neighbours is None or setting.sampler not in STOCHASTIC:
            return {}
        found = jackknife(self.neighbours.kl_values(samples))
        return estimate_columns("validation_kl_sde", found)

    def of_images(self, scoring: ImageScoring, images: DrawnImages) -> Columns:
        """The Frechet distance of generated images to the validation split."""
        for name in ("fid", "fd"):
            if name in self.wanted and images.is_finite:
                found = scoring.distance_to_validation(images)
                return estimate_columns(f"validation_{name}", found)
        return {}

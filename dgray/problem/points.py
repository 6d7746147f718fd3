"""Points with an exact distribution: samples, likelihoods and the builders of their problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.fit_data import BaseData
from dgray.catalogue import DATA
from dgray.config.bases import BaseSection, TrainedBase
from dgray.config.data import DataSection
from dgray.config.parts import section_arguments
from dgray.config.study import StudyConfig
from dgray.diffusion.class_mixture import ClassMixture
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.mixture import ExactLaw
from dgray.diffusion.noise import named_generator, seeded_noise
from dgray.discriminator.discriminator import Oracle
from dgray.discriminator.objective import Batch
from dgray.errors import PartError
from dgray.metrics.estimate import Estimate
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import TrainingData, build_base
from dgray.problem.problem import Labelled, Problem, Samples
from dgray.problem.returned import check_returned

NUM_SHOWN = 1000  # points of a sample cloud
_CLASSES = "classes of "  # prefix of a split in an artifact of generated points


@dataclass(frozen=True)
class LawSamples:
    """Exact samples of a distribution; ``role`` separates the samples of two.

    ``class_weights``: probability of each class, (C,), from which labels are drawn if the
    distribution itself has none; None: no labels.
    """

    law: ExactLaw
    seed: int
    role: str
    class_weights: Tensor | None = None

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """Draw ``count`` samples and return the first; fewer samples would be another draw."""
        return self.law.sample(count, named_generator(self.seed, self.role, split))[:first]

    def stored(self, split: str, count: int) -> Tensor:
        """Return the samples in float32."""
        return self.take(split, count).float()

    def labels(self, split: str, count: int) -> Tensor | None:
        """Return the classes of the samples: those of the distribution, or independent of them."""
        if isinstance(self.law, ClassMixture):
            generator = named_generator(self.seed, self.role, split)
            return self.law.sample_labelled(count, generator)[1]
        if self.class_weights is None:
            return None
        generator = named_generator(self.seed, self.role, "labels", split)
        weights = self.class_weights.cpu()
        return torch.multinomial(weights, count, True, generator=generator).to(
            self.class_weights.device
        )


@dataclass(frozen=True)
class PooledPoints:
    """Stored points, shape (n, d), by split, and their classes (n,) if they have any."""

    by_split: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """Return the first of the stored points of a split."""
        return self.by_split[split][:count][:first]

    def stored(self, split: str, count: int) -> Tensor:
        """Return the points in float32."""
        return self.take(split, count).float()

    def labels(self, split: str, count: int) -> Tensor | None:
        """Return the classes of the points, if they have any."""
        return self.classes[split][:count] if self.classes else None


@dataclass(frozen=True, kw_only=True)
class PointProblem(Problem):
    """Problem of points."""

    @property
    @override
    def shape(self) -> None:
        return None

    @override
    def sample_noise(self, seeds: Sequence[int], shape: tuple[int, ...], purpose: str) -> Tensor:
        return seeded_noise(self.seed, seeds, shape, purpose)

    @override
    def likelihood_points(self, split: str) -> Tensor:
        """Return samples noised to sigma_min."""
        clean = self.real(split, self.evaluation.num_points)
        names = () if split == "held_out" else (split,)
        return clean + self.span[0] * self.start_noise(
            "noise", "likelihood", *names, shape=clean.shape
        )

    @override
    def likelihood_probes(self, split: str) -> None:
        return None

    @override
    def shown(self, split: str) -> Tensor:
        return self.real(split, NUM_SHOWN)

    @override
    def generation_batches(self, start: int, stop: int) -> list[range]:
        return [range(start, stop)] if start < stop else []

    @override
    def generation_noise(self, split: str, seeds: range) -> Tensor:
        generator = named_generator(self.seed, "generated", split)
        shape = (seeds.stop, self.dimension)
        return torch.randn(shape, generator=generator, dtype=torch.float64)[seeds.start :]

    @override
    def to_stored(self, samples: Tensor) -> Tensor:
        return samples

    @override
    def to_output(self, samples: Tensor) -> Tensor:
        return samples.float()


@dataclass(frozen=True, kw_only=True)
class ExactPointProblem(PointProblem):
    """Problem of points of known density.

    Attributes:
        law: exact distribution of the data.
        base_law: exact distribution of the base; None if it is a network.
    """

    law: ExactLaw
    base_law: ExactLaw | None

    @override
    def likelihood_estimates(
        self, points: Tensor, log_prob: Tensor, labels: Tensor | None
    ) -> dict[str, Estimate]:
        law = with_labels(self.law, labels)
        exact = law.log_prob(points, torch.full_like(points[:, 0], self.span[0]))
        estimates = {"kl": Estimate.of(exact - log_prob)}
        if "nll" in self.evaluation.names:
            estimates["nll"] = Estimate.of(-log_prob)
        return estimates

    @override
    def score_gap(self, held_out: Batch) -> Tensor:
        return self.score_gap_at(held_out.real.x, held_out.real.sigma, held_out.real.labels)

    def score_gap_at(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return sigma (score of the data - score of the base), (..., d), at x (..., d)."""
        law, base = with_labels(self.law, labels), with_labels(self.base, labels)
        return (law(x, sigma) - base(x, sigma)) / sigma[..., None]

    @override
    def prior_gap(self, clean: Tensor) -> Tensor:
        sigma_max = self.span[1]
        x = clean + sigma_max * self.start_noise("noise", "prior", shape=clean.shape)
        prior: Tensor = torch.distributions.Normal(0.0, self.prior_std).log_prob(x).sum(1)
        law = with_labels(self.law, self.real_labelled("held_out", len(clean))[1])
        return law.log_prob(x, torch.full_like(x[:, 0], sigma_max)) - prior

    @property
    @override
    def has_score(self) -> bool:
        return True

    @override
    def log_ratio(self) -> Oracle | None:
        return None if self.base_law is None else Oracle(self.law, self.base_law)


def build_point_problem(
    config: StudyConfig, shared: Shared, device: torch.device, values: Mapping[str, Any]
) -> ExactPointProblem:
    """Build a problem of known density; ``values``: the fields that all problems share."""
    law = build_law(config)
    sigma_data = config.diffusion.sigma_data or law.std
    law = law.to(device, torch.float64)
    num_classes = law.num_classes if isinstance(law, ClassMixture) else 0
    is_conditional = num_classes > 0 and any(
        getattr(part, "conditional", False) for part in (config.base, config.discriminator)
    )
    if isinstance(law, ClassMixture) and not is_conditional:
        law = law.mixture
    class_weights = law.class_weights if isinstance(law, ClassMixture) else None
    base: Denoiser
    generated: Samples | None = None
    base_law = build_base_law(config)
    if base_law is not None:
        base_law = base_law.to(device, torch.float64)
        base = base_law
        generated = LawSamples(base_law, config.seed, "generated", class_weights)
    else:
        base = build_base(config, shared, (law.dimension,), device, num_classes=num_classes)
        if shared.get("generated") is not None:
            generated = pooled(shared.tensors("generated"), device)
    return ExactPointProblem(
        law=law,
        base_law=base_law,
        base=base,
        sigma_data=sigma_data,
        real_samples=LawSamples(law, config.seed, "real"),
        generated_samples=generated,
        device=device,
        dimension=law.dimension,
        num_classes=num_classes if is_conditional else 0,
        class_weights=class_weights,
        **values,
    )


def pooled(stored: Mapping[str, Tensor], device: torch.device) -> PooledPoints:
    """Return the points of ``pack_generated_points``."""
    tensors = {name: tensor.to(device) for name, tensor in stored.items()}
    points = {split: t for split, t in tensors.items() if not split.startswith(_CLASSES)}
    classes = {s.removeprefix(_CLASSES): t for s, t in tensors.items() if s.startswith(_CLASSES)}
    return PooledPoints(points, classes)


def point_training_data(config: StudyConfig, shared: Shared) -> TrainingData:
    """Return the samples that a base of points is trained on: a draw of its own."""
    law = build_law(config)
    assert isinstance(config.base, TrainedBase)
    generator, count = named_generator(config.seed, "real", "base"), config.base.num_real
    sigma_data = config.diffusion.sigma_data or law.std
    if isinstance(law, ClassMixture):
        samples = BaseData(*law.sample_labelled(count, generator))
        return TrainingData(samples, sigma_data, law.num_classes)
    return TrainingData(BaseData(law.sample(count, generator)), sigma_data)


def point_part_size(config: StudyConfig) -> None:
    """Return the size of a part: all points of a split, since rounding depends on the batch."""


def pack_generated_points(shared: Shared, by_split: Mapping[str, Labelled]) -> bytes:
    """Return the artifact of the points that a base generated."""
    tensors = {split: points for split, (points, _) in by_split.items()}
    classes = {_CLASSES + split: c for split, (_, c) in by_split.items() if c is not None}
    return safetensors.torch.save(tensors | classes)


def build_law(config: StudyConfig) -> ExactLaw:
    """Return the exact distribution of the data, float64 on the CPU."""
    law: ExactLaw = config.data.spec.load()(**section_arguments(config.data, DataSection))
    if config.data.spec not in DATA.built_in:
        _check_law(law)
    return law


def _check_law(law: ExactLaw) -> None:
    """Check user-defined data on two samples.

    Raises:
        PartError: if it is no exact distribution, or does not return finite floating-point
            numbers.
    """
    methods = [name for name in vars(ExactLaw) if not name.startswith("_")]
    if missing := [name for name in methods if not hasattr(law, name)]:
        raise PartError(
            "data of points must be an exact distribution (dgray.diffusion.mixture.ExactLaw), but "
            f"its factory returned {type(law).__name__}, which lacks {', '.join(missing)}"
        )
    dimension, std = law.dimension, law.std
    if not (dimension > 0 and std > 0):
        raise PartError(
            f"data of points must have a dimension and a std > 0, but got {dimension!r}, {std!r}"
        )
    x = law.sample(2, named_generator(0, "check"))
    check_returned("data.sample(2, generator)", x, (2, dimension))
    sigma = torch.ones(2, dtype=x.dtype)
    check_returned("data.log_prob(x, sigma)", law.log_prob(x, sigma), (2,))
    check_returned("data(x, sigma)", law(x, sigma), (2, dimension))


def build_base_law(config: StudyConfig) -> ExactLaw | None:
    """Return the exact distribution of the base, float64 on the CPU; None if it is a network."""
    if not config.base.spec.has_density:
        return None
    law: ExactLaw = config.base.spec.load()(
        build_law(config), **section_arguments(config.base, BaseSection)
    )
    return law

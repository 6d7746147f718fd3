"""Points of a file, whose density is unknown: samples, likelihoods and builders of a problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.fit_data import BaseData
from dgray.config.data import DataSection
from dgray.config.parts import section_arguments
from dgray.config.study import StudyConfig
from dgray.data.points import PointSet
from dgray.data.splits import split
from dgray.diffusion.noise import named_generator
from dgray.metrics.estimate import Estimate
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import TrainingData, build_base
from dgray.problem.points import PointProblem, PooledPoints, pooled
from dgray.problem.problem import training_split

BASE_SPLIT = "base"
_CLASSES = "classes"  # tensor in the artifact
_ROWS = "rows."  # prefix of a split in the artifact


@dataclass(frozen=True, kw_only=True)
class StoredPointProblem(PointProblem):
    """Problem of points whose distribution is unknown: levels of the path KL are not defined."""

    @override
    def likelihood_estimates(
        self, points: Tensor, log_prob: Tensor, labels: Tensor | None
    ) -> dict[str, Estimate]:
        return {"nll": Estimate.of(-log_prob)}


def point_artifact(config: StudyConfig, shared: Shared) -> bytes:
    """Return the artifact of the points of a file, with the splits of replicates and base."""
    points: PointSet = config.data.spec.load()(**section_arguments(config.data, DataSection))
    data = config.data
    sizes = {"validation": data.num_validation, "held_out": data.num_held_out}
    sizes |= {training_split(r): data.num_real for r in range(config.replicates)}
    sizes[BASE_SPLIT] = getattr(config.base, "num_real", 0)
    rows = split(points, sizes, config.seed)
    tensors = {"points": points.content.contiguous()}
    tensors |= {_ROWS + name: indices.contiguous() for name, indices in rows.items()}
    if points.labels is not None:
        tensors[_CLASSES] = points.labels
    source = {"source": points.summary.to_json() | {"sha256": points.sha256}}
    return safetensors.torch.save(tensors, {"about": json.dumps(source)})


@dataclass(frozen=True)
class StoredPoints:
    """Points of the artifact.

    Attributes:
        samples: points and classes by split.
        std: root mean variance of a coordinate, over all points.
        class_counts: number of points of each class, (C,); None: no classes.
    """

    samples: PooledPoints
    std: float
    class_counts: Tensor | None

    @staticmethod
    def read(shared: Shared, device: torch.device, seed: int) -> StoredPoints:
        """Read the artifact of ``point_artifact``.

        The split ``floor`` are all points that are in neither the held-out nor the validation
        split, in an order that depends on the seed of the study.
        """
        tensors = {name: t.to(device) for name, t in shared.tensors("points").items()}
        points, classes = tensors["points"], tensors.get(_CLASSES)
        rows = {n.removeprefix(_ROWS): t for n, t in tensors.items() if n.startswith(_ROWS)}
        is_free = torch.ones(len(points), dtype=torch.bool, device=device)
        is_free[torch.cat([rows["held_out"], rows["validation"]])] = False
        pool = is_free.nonzero()[:, 0]
        order = torch.randperm(len(pool), generator=named_generator(seed, "real", "floor"))
        rows["floor"] = pool[order.to(device)]
        by_split = {name: points[indices] for name, indices in rows.items()}
        labels = {} if classes is None else {n: classes[i] for n, i in rows.items()}
        counts = None if classes is None else torch.bincount(classes)
        std = float(points.var(0, correction=0).mean().sqrt())
        return StoredPoints(PooledPoints(by_split, labels), std, counts)


def build_stored_point_problem(
    config: StudyConfig, shared: Shared, device: torch.device, values: Mapping[str, Any]
) -> StoredPointProblem:
    """Build a problem of points of a file; ``values``: the fields that all problems share."""
    stored = StoredPoints.read(shared, device, config.seed)
    dimension = stored.samples.by_split["held_out"].shape[1]
    counts = stored.class_counts
    num_classes = 0 if counts is None else len(counts)
    base = build_base(config, shared, (dimension,), device, num_classes=num_classes)
    generated = None
    if shared.get("generated") is not None:
        generated = pooled(shared.tensors("generated"), device)
    is_conditional = getattr(base, "num_classes", 0) > 0 or any(
        getattr(part, "conditional", False) for part in (config.base, config.discriminator)
    )
    weights = None if counts is None else counts / counts.sum()
    return StoredPointProblem(
        base=base,
        sigma_data=config.diffusion.sigma_data or stored.std,
        real_samples=stored.samples,
        generated_samples=generated,
        device=device,
        dimension=dimension,
        num_classes=num_classes if is_conditional else 0,
        class_weights=weights if is_conditional else None,
        **values,
    )


def stored_training_data(config: StudyConfig, shared: Shared) -> TrainingData:
    """Return the points that a base is trained on: a split of its own."""
    stored = StoredPoints.read(shared, torch.device("cpu"), config.seed)
    points, classes = stored.samples.by_split[BASE_SPLIT], stored.samples.classes
    labels = classes.get(BASE_SPLIT)
    num_classes = 0 if stored.class_counts is None else len(stored.class_counts)
    sigma_data = config.diffusion.sigma_data or stored.std
    return TrainingData(BaseData(points, labels), sigma_data, num_classes)

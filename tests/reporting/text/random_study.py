"""Random studies whose statements follow from their rows by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from dgray.record.row import Row
from tests.reporting.synthetic import Member, hash_of, row

TITLES = {
    "path_kl": "path KL",
    "kl": "KL of the probability-flow ODE",
    "kl_sde": "KL of the SDE sampler",
    "fd": "Fréchet distance",
}
TITLE = "|".join(TITLES.values())
METRICS = {title: metric for metric, title in TITLES.items()}
OBJECTIVES = ("cross_entropy", "kl")
CORRECTIONS = ("cross_entropy", "residual", "fine_tune", "sims")
SUBJECTS = {
    "cross_entropy": "Cross-entropy",
    "kl": "The KL objective",
    "residual": "The residual score",
    "fine_tune": "Fine-tuning",
    "sims": "SIMS",
}
NAMES = {
    "cross_entropy": "cross-entropy",
    "kl": "the KL objective",
    "residual": "the residual score",
    "fine_tune": "fine-tuning",
    "sims": "SIMS",
}
BASE_FD = (60.0, 2.0)


@dataclass
class Model:
    """A guided model: its description, and values and errors of its replicates by metric.

    Attributes:
        checkpoint: its trial and epoch.
        flops: cost of its training.
    """

    objective: str
    checkpoint: tuple[str, int]
    flops: int
    setting: str
    weight: str
    validation: float
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)
    is_unreliable: bool = False

    def changes(self, metric: str) -> np.ndarray:
        values = np.array(self.values[metric])
        return values - BASE_FD[0] if metric == "fd" else values

    def own(self, metric: str) -> np.ndarray:
        errors = np.array(self.errors[metric])
        return np.hypot(errors, BASE_FD[1]) if metric == "fd" else errors

    def mean(self, metric: str) -> float:
        return float(self.changes(metric).mean())

    def sign(self, metric: str) -> int:
        adjusted = self.adjusted[metric]
        return int(np.sign(self.mean(metric))) if adjusted < 0.05 else 0


def p_value(changes: np.ndarray, own: np.ndarray, limit: float = np.inf) -> float:
    count = len(changes)
    if count < 2 or not np.isfinite(changes).all():
        return np.nan
    error = np.sqrt(changes.var(ddof=1) / count + np.mean(own**2))
    return float(2 * stats.t.sf(abs(changes.mean()) / error, min(count - 1, limit)))


def adjust(values: list[float]) -> list[float]:
    """Benjamini and Hochberg by the definition: min over larger p-values of p m / rank."""
    tested = sorted(p for p in values if not np.isnan(p))
    total = len(tested)

    def adjusted(p: float) -> float:
        steps = [q * total / (rank + 1) for rank, q in enumerate(tested) if q >= p]
        return min(1.0, *steps) if steps else np.nan

    return [adjusted(p) for p in values]


@dataclass
class Case:
    """A random study: its rows, and its models with what statements must say of them."""

    rows: list[Row]
    models: list[Model]
    metrics: list[str]

    def tested(self, metric: str, **properties: Any) -> list[Model]:
        models = self.of(metric, **properties)
        return [m for m in models if not np.isnan(m.adjusted[metric])]

    def of(self, metric: str, **properties: Any) -> list[Model]:
        kept = [m for m in self.models if not (metric == "kl" and m.is_unreliable)]
        return [m for m in kept if all(getattr(m, k) == v for k, v in properties.items())]

    def find(self, objective: str, setting: str) -> Model:
        (model,) = [m for m in self.models if (m.objective, m.setting) == (objective, setting)]
        return model


def random_case(seed: int, methods: Sequence[str] = OBJECTIVES) -> Case:
    """Return a study of these objectives, or of corrections."""
    draw = np.random.default_rng(seed)
    metrics = ["path_kl", *(m for m in ("kl", "kl_sde", "fd") if draw.random() < 0.7)]
    replicates = int(draw.choice([1, 2, 3, 6, 12]))
    names = [n for n in methods if draw.random() < 0.9] or [methods[-1]]
    axes = {"discriminator.width": [4, 64], "data.num_real": [100, 300]}
    shown = [axis for axis in axes if draw.random() < 0.6]
    weights = [w for w in (0.25, 1.0, 1.5, None) if draw.random() < 0.7] or [None]
    distance = {"fd": BASE_FD[0], "fd_se": BASE_FD[1]} if "fd" in metrics else {}
    rows = [row(Member("base", {}), path_kl=1.0, path_kl_se=0.1, **distance)]
    models = []
    for name in names:
        for values in itertools.product(*(axes[axis] for axis in shown)):
            member = Member(name, {"fit.objective": name, **dict(zip(shown, values, strict=True))})
            for epoch, weight in itertools.product([5, 20][: draw.integers(1, 3)], weights):
                model, added = random_model(draw, member, (epoch, weight), metrics, replicates)
                models.append(model)
                rows += added
    case = Case(rows, models, metrics)
    pairs = [(m, metric) for metric in metrics for m in case.of(metric)]
    limits = {"fd": 9.0}
    p = [p_value(m.changes(k), m.own(k), limits.get(k, np.inf)) for m, k in pairs]
    for (model, metric), adjusted in zip(pairs, adjust(p), strict=True):
        model.adjusted[metric] = adjusted
    return case


def random_model(
    draw: np.random.Generator,
    member: Member,
    key: tuple[int, float | None],
    metrics: list[str],
    replicates: int,
) -> tuple[Model, list[Row]]:
    epoch, weight = key
    axes = sorted(axis for axis in member.axes if axis != "fit.objective")
    shown = "calibrated" if weight is None else f"w = {weight:g}"
    parts = [f"{axis.split('.')[1]} {member.axes[axis]}" for axis in axes]
    model = Model(
        member.objective,
        (member.id, epoch),
        1000 * epoch + hash_of(member.id) % 9973,
        ", ".join([*parts, f"epoch {epoch}", shown]),
        "calibrated weight" if weight is None else shown,
        float(draw.normal()),
        is_unreliable="kl" in metrics and bool(draw.random() < 0.1),
    )
    for metric in metrics:
        effect = draw.choice([0, 0, 1, -1]) * draw.exponential(5)
        values = effect + draw.normal(size=replicates) * draw.choice([0.1, 1])
        if draw.random() < 0.1:
            values[draw.integers(replicates)] = draw.choice([np.inf, np.nan, 500.0])
        offset = BASE_FD[0] if metric == "fd" else 0.0
        model.values[metric] = [float(v) + offset for v in values]
        model.errors[metric] = [float(v) for v in draw.uniform(0.05, 0.3, replicates)]
    return model, list(rows_of(model, member, epoch, weight, replicates))


def rows_of(
    model: Model, member: Member, epoch: int, weight: float | None, replicates: int
) -> Iterator[Row]:
    for r in range(replicates):
        is_guided = model.objective in OBJECTIVES
        columns: dict[str, Any] = {
            "validation_change": model.validation,
            "correction": "guidance" if is_guided else model.objective,
            "train_flops": model.flops,
        }
        for metric, values in model.values.items():
            name = metric if metric == "fd" else f"{metric}_change"
            columns[name] = None if np.isnan(values[r]) else values[r]
            columns[f"{name}_se"] = model.errors[metric][r]
        columns["kl_unconverged"] = 0.1 if model.is_unreliable else 0.0
        sde = {k: columns.pop(k) for k in list(columns) if k.startswith("kl_sde")}
        yield row(member, epoch, weight, replicate=r, **columns)
        if sde:
            columns = {
                k: v
                for k, v in columns.items()
                if k.startswith(("path", "valid", "corr", "train"))
            }
            yield row(member, epoch, weight, replicate=r, sampler="sde", **columns, **sde)

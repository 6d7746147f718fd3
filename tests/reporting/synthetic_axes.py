"""Studies with random training axes, in which every number belongs to one trial only."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgray.record.row import Cloud, Row
from dgray.record.row_schema import to_table
from dgray.reporting.table import StudyTable, study_table
from tests.reporting.synthetic import Member, row

OBJECTIVES = ("cross_entropy", "kl", "mixed")
SHARED: Mapping[str, Sequence[Any]] = {
    "discriminator.width": (4, 8, 16, 32, 64, 128, 256),
    "discriminator.depth": (2, 3),
    "base.width": (16, 32, 64),  # an axis of the base, with the same last part as another
    "data.num_real": (50, 100, 200, 400),
    "fit.learning_rate": (1e-3, 1e-2, 1.0000001e-3),
    "fit.weight_decay": (0.0, 0.1),
    "fit.batching": ("whole", "parts", "both"),
}
OWN: Mapping[str, tuple[str, Sequence[Any]]] = {
    "fit.gradient_penalty": ("cross_entropy", (0.0, 0.1, 0.5)),
    "fit.gamma": ("mixed", (1, 2, 3, 4, 5)),
}
EPOCHS, WEIGHTS = (5, 80), (0.5, 1.0, None)
EDGES = np.geomspace(0.02, 20, 5).tolist()
_BASE_AXES = ("base.width",)
_LEVELS = ("path_kl", "kl", "path_kl_change", "kl_change", "fd")
_OF_TRAINING = ("loss_train", "loss_held_out")
_LISTS = ("score_error_bins", "calibrated_weights")
_MAX_TRIALS = 24


def random_table(
    seed: int, shared: Mapping[str, Sequence[Any]] = SHARED, count: int | None = None
) -> StudyTable:
    """Return a study with ``count`` random shared axes, and axes of single objectives."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(0, 5)) if count is None else count
    names = [str(name) for name in rng.permutation(list(shared))[:number]]
    axes = {name: list(shared[name])[: int(rng.integers(2, 8))] for name in names}
    own = {name: OWN[name] for name in OWN if rng.random() < 0.6}
    objectives = [str(o) for o in rng.permutation(OBJECTIVES)[: int(rng.integers(1, 4))]]
    members = []
    for objective in objectives:
        options = {a: values for a, (name, values) in own.items() if name == objective}
        for values in itertools.product(*axes.values(), *options.values()):
            assigned = dict(zip([*axes, *options], values, strict=True))
            members.append(Member(objective, {"fit.objective": objective, **assigned}))
    members = [m for m in members if rng.random() < 0.9] or members
    kept = [str(i) for i in sorted(rng.permutation(len(members))[:_MAX_TRIALS], key=int)]
    members = [members[int(i)] for i in kept]
    bases = {tuple((a, m.axes[a]) for a in _BASE_AXES if a in m.axes): None for m in members}
    return table_of_members([Member("base", dict(key)) for key in bases], members, rng)


def table_of_members(
    bases: Sequence[Member], members: Sequence[Member], rng: np.random.Generator
) -> StudyTable:
    """Return a study of these trials with random numbers, no two of them equal."""
    rows: list[Row] = []
    clouds: list[Cloud] = []
    for member in (*bases, *members):
        is_base = member.objective == "base"
        for epoch in (0,) if is_base else EPOCHS:
            losses: dict[str, Any] = {} if is_base else _losses(rng)
            for weight in (0.0,) if is_base else WEIGHTS:
                rows.append(row(member, epoch, weight, **_metrics(rng), **losses))
                clouds.append(
                    Cloud(
                        source="base" if is_base else "guided",
                        trial=member.id,
                        epoch=epoch,
                        is_calibrated=weight is None,
                        guidance_weight=weight,
                        sampler="ode",
                        points=rng.normal(size=(8, 2)).tolist(),
                    )
                )
    losses_of_fit = pd.DataFrame(columns=["trial", "replicate", "epoch", "loss_train"])
    frame = pd.DataFrame([vars(cloud) for cloud in clouds])
    return study_table(to_table(rows, Row), frame, losses_of_fit)


def _metrics(rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {name: float(rng.uniform(0.1, 1)) for name in _LEVELS}
    values |= {f"{name}_se": 0.01 for name in _LEVELS}
    values |= {name: rng.uniform(0.1, 1, 4).tolist() for name in _LISTS}
    return values | {"sigma_edges": EDGES, "calibrated_sigmas": EDGES[:4]}


def _losses(rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {name: float(rng.uniform(0.1, 1)) for name in _OF_TRAINING}
    bins = {f"{name}_bins": rng.uniform(0.1, 1, 4).tolist() for name in _OF_TRAINING}
    return values | bins

"""Rows of one checkpoint as TensorBoard scalars, with tags such as ``kl_sde/w=1 (sde)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgray.catalogue import DISCRIMINATOR_COLUMNS, SETTING_COLUMNS
from dgray.reporting.presentation import (
    SELECTION,
    depends_on_sampler,
    divergences,
    score_names,
    selection_columns,
)
from dgray.reporting.searches import SearchPoints
from dgray.reporting.tensorboard.rows import Rows, is_missing


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One point of a curve."""

    tag: str
    epoch: int
    value: float


def best_tags() -> tuple[str, ...]:
    """Return the tags of the best setting, which are metrics of the HPARAMS tab."""
    return tuple(f"best/{name}" for name in (*divergences(), SELECTION))


def loss_scalars(rows: Rows, losses: Mapping[int, float]) -> Iterator[Scalar]:
    """Yield losses, overall and by noise level, and scores of the discriminator.

    ``loss/train`` and ``loss/held_out`` are evaluated in the same way. ``loss/fit`` is the loss
    that training minimised (weighted, with its own noise levels and dropout), at more epochs.

    Args:
        rows: rows of one checkpoint.
        losses: training loss by epoch.
    """
    epoch = rows["epoch"][0]
    for fit_epoch, value in losses.items():
        yield Scalar(tag="loss/fit", epoch=fit_epoch, value=value)
    for column in DISCRIMINATOR_COLUMNS:
        if column.type != "float" or column.name.endswith("_se"):
            continue
        if (mean := rows.mean(column.name)) is not None:
            is_loss = column.name.startswith("loss_")
            tag = column.name.replace("_", "/", 1) if is_loss else f"discriminator/{column.name}"
            yield Scalar(tag=tag, epoch=epoch, value=mean)
    for name in ("loss_train_bins", "loss_held_out_bins"):
        means, middle = rows.mean_of_lists(name), middle_levels(rows)
        if means is None or middle is None:
            continue
        for index, value in enumerate(means):
            tag = f"{name}/{index:02d} sigma={middle[index]:.2g}"
            yield Scalar(tag=tag, epoch=epoch, value=float(value))


def middle_levels(rows: Rows) -> np.ndarray | None:
    """Return the middle noise level of each bin; None without bins."""
    edges = next((np.asarray(e, float) for e in rows.present("sigma_edges")), None)
    return None if edges is None else np.sqrt(edges[:-1] * edges[1:])


def metric_scalars(rows: Rows) -> Iterator[Scalar]:
    """Yield metrics per guidance weight, and per sampler if they depend on it."""
    epoch = rows["epoch"][0]
    has_steps = len(set(rows["num_steps"])) > 1
    names = [name for name in score_names(rows.columns) if _holds_numbers(rows, name)]
    tags: dict[str, list[float]] = {}
    for row in rows.records():
        setting = _setting(row)
        steps = f", {row['num_steps']} steps" if has_steps else ""
        for name in names:
            if not is_missing(row[name]):
                sampler = f" ({row['sampler']}{steps})" if depends_on_sampler(name) else ""
                tags.setdefault(f"{name}/{setting}{sampler}", []).append(float(row[name]))
    for tag, values in tags.items():
        yield Scalar(tag=tag, epoch=epoch, value=sum(values) / len(values))


def _holds_numbers(rows: Rows, name: str) -> bool:
    return any(isinstance(value, int | float) for value in rows.present(name)[:1])


def best_scalars(rows: Rows) -> tuple[float, list[Scalar]] | None:
    """Return the value that selects the best setting of a checkpoint, and its metrics."""
    epoch = rows["epoch"][0]
    keys = [key for key in SETTING_COLUMNS if key not in ("sampler", "num_steps")]
    settings: dict[tuple[Any, ...], list[int]] = {}
    for index, key in enumerate(zip(*(rows[key] for key in keys), strict=True)):
        setting = tuple(None if is_missing(value) else value for value in key)
        settings.setdefault(setting, []).append(index)
    groups = [rows.take(indices) for indices in settings.values()]
    for column in selection_columns():
        means = [
            (mean, index) for index, g in enumerate(groups) if (mean := g.mean(column)) is not None
        ]
        if means:
            value, best = min(means)
            scalars = [
                Scalar(tag=tag, epoch=epoch, value=mean)
                for tag in best_tags()
                if (mean := groups[best].mean(tag.removeprefix("best/"))) is not None
            ]
            return value, scalars
    return None


def search_scalars(search: SearchPoints) -> dict[str, list[Scalar]]:
    """Return, per finished trial of a search, its metrics on both splits at its best setting."""
    splits = {"validation": "validation:", "held-out": ""}
    return {
        str(point["trial"]): [
            Scalar(tag=f"search/{metric} ({split})", epoch=int(point["epoch"]), value=float(value))
            for metric in search.metrics
            for split, prefix in splits.items()
            if not pd.isna(value := point[prefix + metric])
        ]
        for _, point in search.done.iterrows()
    }


def _setting(row: Mapping[str, Any]) -> str:
    text = "w=calibrated" if row["is_calibrated"] else f"w={row['guidance_weight']:g}"
    if row["guided_stage"] != "both":
        text += f", {row['guided_stage']} only"
    if not is_missing(row.get("interval_low")):
        text += f", sigma {row['interval_low']:g}-{row['interval_high']:g}"
    return text

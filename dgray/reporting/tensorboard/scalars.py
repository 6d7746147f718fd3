"""Rows of one checkpoint as TensorBoard scalars, with tags such as ``kl_sde/w=1 (sde)``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One point of a curve."""

    tag: str
    epoch: int
    value: float


def best_tags() -> tuple[str, ...]:
    """Return the tags of the best setting, which are metrics of the HPARAMS tab."""
    return tuple(f"best/{name}" for name in (*divergences(), SELECTION))


def loss_scalars(rows: pd.DataFrame, losses: pd.DataFrame) -> Iterator[Scalar]:
    """Yield losses, overall and by noise level, and scores of the discriminator.

    ``loss/train`` and ``loss/held_out`` are evaluated in the same way. ``loss/fit`` is the loss
    that training minimised (weighted, with its own noise levels and dropout), at more epochs.
    """
    epoch = int(rows["epoch"].iloc[0])
    if len(losses):
        for fit_epoch, value in losses.groupby("epoch")["loss_train"].mean().items():
            yield Scalar(tag="loss/fit", epoch=int(str(fit_epoch)), value=float(value))
    for column in DISCRIMINATOR_COLUMNS:
        values = rows[column.name].dropna()
        if column.type == "float" and len(values) and not column.name.endswith("_se"):
            is_loss = column.name.startswith("loss_")
            tag = column.name.replace("_", "/", 1) if is_loss else f"discriminator/{column.name}"
            yield Scalar(tag=tag, epoch=epoch, value=float(values.astype(float).mean()))
    edges = next((np.asarray(e, float) for e in rows["sigma_edges"] if e is not None), None)
    for name in ("loss_train_bins", "loss_held_out_bins"):
        lists = [np.asarray(v, float) for v in rows[name] if v is not None]
        if edges is None or not lists:
            continue
        middle = np.sqrt(edges[:-1] * edges[1:])
        for index, value in enumerate(np.mean(lists, axis=0)):
            tag = f"{name}/{index:02d} sigma={middle[index]:.2g}"
            yield Scalar(tag=tag, epoch=epoch, value=float(value))


def metric_scalars(rows: pd.DataFrame) -> Iterator[Scalar]:
    """Yield metrics per guidance weight, and per sampler if they depend on it."""
    epoch = int(rows["epoch"].iloc[0])
    has_steps = rows["num_steps"].nunique() > 1
    names = [name for name in score_names(rows) if rows[name].notna().any()]
    tags: dict[str, list[float]] = {}
    for _, row in rows.iterrows():
        setting = _setting(row)
        steps = f", {row['num_steps']} steps" if has_steps else ""
        for name in names:
            if row[name] is not None and not pd.isna(row[name]):
                sampler = f" ({row['sampler']}{steps})" if depends_on_sampler(name) else ""
                tags.setdefault(f"{name}/{setting}{sampler}", []).append(float(row[name]))
    for tag, values in tags.items():
        yield Scalar(tag=tag, epoch=epoch, value=float(np.mean(values)))


def best_scalars(rows: pd.DataFrame) -> tuple[float, list[Scalar]] | None:
    """Return the value that selects the best setting of a checkpoint, and its metrics."""
    epoch = int(rows["epoch"].iloc[0])
    keys = [key for key in SETTING_COLUMNS if key not in ("sampler", "num_steps")]
    names = [tag.removeprefix("best/") for tag in best_tags()]
    numbers = rows[keys].assign(**{name: rows[name].astype(float) for name in names})
    settings = numbers.groupby(keys, dropna=False, sort=False)[names].mean()
    for column in selection_columns():
        if settings[column].notna().any():
            best = settings.loc[settings[column] == settings[column].min()].iloc[0]
            scalars = [
                Scalar(tag=tag, epoch=epoch, value=float(best[name]))
                for tag, name in zip(best_tags(), names, strict=True)
                if not pd.isna(best[name])
            ]
            return float(best[column]), scalars
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


def _setting(row: pd.Series) -> str:
    text = "w=calibrated" if row["is_calibrated"] else f"w={row['guidance_weight']:g}"
    if row["guided_stage"] != "both":
        text += f", {row['guided_stage']} only"
    if row["interval_low"] is not None and not pd.isna(row["interval_low"]):
        text += f", sigma {row['interval_low']:g}-{row['interval_high']:g}"
    return text

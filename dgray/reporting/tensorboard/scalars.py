"""Rows of one checkpoint as TensorBoard scalars: tags ``kl/w=1``, ``kl_sde/w=1 (sde)``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgray.plan.plan import SETTING_COLUMNS
from dgray.reporting.aggregate import OF_SAMPLER
from dgray.reporting.search_table import CellPoints
from dgray.reporting.text.summary import CHOSEN_BY

BEST = ("best/path_kl", "best/kl", "best/kl_sde", "best/validation_change")
_OF_MODEL = ("kl", "kl_change", "path_kl", "path_kl_change", "score_error", "validation_change")
_OF_DISCRIMINATOR = {
    "loss_train": "loss/train",
    "loss_held_out": "loss/held_out",
    "overfit_gap": "loss/gap",
    "cross_entropy": "discriminator/cross_entropy",
    "cross_entropy_gap": "discriminator/cross_entropy_gap",
    "accuracy": "discriminator/accuracy",
    "calibration_error": "discriminator/calibration_error",
}


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One point of one curve."""

    tag: str
    epoch: int
    value: float


def loss_scalars(rows: pd.DataFrame, losses: pd.DataFrame) -> Iterator[Scalar]:
    """Losses overall and per noise level, and the discriminator's scores.

    ``loss/train`` and ``loss/held_out`` are evaluated in the same way; ``loss/fit`` is the loss
    as it was optimised (weighted, noise levels of the training, dropout), finer over epochs.
    """
    epoch = int(rows["epoch"].iloc[0])
    if len(losses):
        for at, value in losses.groupby("epoch")["loss_train"].mean().items():
            yield Scalar(tag="loss/fit", epoch=int(str(at)), value=float(value))
    for name, tag in _OF_DISCRIMINATOR.items():
        yield from _mean(rows, name, tag, epoch)
    edges = next((np.asarray(e, float) for e in rows["sigma_edges"] if e is not None), None)
    for name in ("loss_train_bins", "loss_held_out_bins"):
        known = [np.asarray(v, float) for v in rows[name] if v is not None]
        if edges is None or not known:
            continue
        middle = np.sqrt(edges[:-1] * edges[1:])
        for index, value in enumerate(np.mean(known, axis=0)):
            tag = f"{name}/{index:02d} sigma={middle[index]:.2g}"
            yield Scalar(tag=tag, epoch=epoch, value=float(value))


def metric_scalars(rows: pd.DataFrame) -> Iterator[Scalar]:
    """Metrics per weight; those that depend on the sampler per sampler as well."""
    epoch = int(rows["epoch"].iloc[0])
    has_steps = rows["num_steps"].nunique() > 1
    tags: dict[str, list[float]] = {}
    for _, row in rows.iterrows():
        weight = _weight_words(row)
        steps = f", {row['num_steps']} steps" if has_steps else ""
        for name in (*_OF_MODEL, *OF_SAMPLER):
            value = row[name]
            if value is None or pd.isna(value):
                continue
            sampler = f" ({row['sampler']}{steps})" if name in OF_SAMPLER else ""
            tags.setdefault(f"{name}/{weight}{sampler}", []).append(float(value))
    for tag, values in tags.items():
        yield Scalar(tag=tag, epoch=epoch, value=float(np.mean(values)))


def best_scalars(rows: pd.DataFrame) -> tuple[float, list[Scalar]] | None:
    """The setting best on validation: the value that chose it, and its held-out metrics."""
    epoch = int(rows["epoch"].iloc[0])
    keys = [key for key in SETTING_COLUMNS if key not in ("sampler", "num_steps")]
    names = [tag.removeprefix("best/") for tag in BEST]
    numbers = rows[keys].assign(**{name: rows[name].astype(float) for name in names})
    settings = numbers.groupby(keys, dropna=False, sort=False)[names].mean()
    for column in CHOSEN_BY:
        if settings[column].notna().any():
            chosen = settings.loc[settings[column] == settings[column].min()].iloc[0]
            scalars = [
                Scalar(tag=tag, epoch=epoch, value=float(chosen[name]))
                for tag, name in zip(BEST, names, strict=True)
                if not pd.isna(chosen[name])
            ]
            return float(chosen[column]), scalars
    return None


def told_scalars(search: CellPoints) -> dict[str, list[Scalar]]:
    """Of each finished trial of a search its metrics on both splits, at its best setting."""
    found: dict[str, list[Scalar]] = {}
    for _, point in search.done.iterrows():
        found[str(point["trial"])] = [
            Scalar(tag=f"search/{metric} ({split})", epoch=int(point["epoch"]), value=float(value))
            for metric in search.metrics
            for split, value in (
                ("validation", point[f"validation:{metric}"]),
                ("held-out", point[metric]),
            )
            if not pd.isna(value)
        ]
    return found


def _mean(rows: pd.DataFrame, name: str, tag: str, epoch: int) -> Iterator[Scalar]:
    known = rows[name].dropna().astype(float)
    if len(known):
        yield Scalar(tag=tag, epoch=epoch, value=float(known.mean()))


def _weight_words(row: pd.Series) -> str:
    words = "w=calibrated" if row["is_calibrated"] else f"w={row['guidance_weight']:g}"
    if row["guided_stage"] != "both":
        words += f", {row['guided_stage']} only"
    if row["interval_low"] is not None and not pd.isna(row["interval_low"]):
        words += f", sigma {row['interval_low']:g}-{row['interval_high']:g}"
    return words

"""Selection of the guided models that a figure or sentence shows, and their description.

The frames named ``models`` hold rows of ``StudyTable.models``: one guided model each, that is a
checkpoint with a guidance weight, an interval of noise levels and guided stages.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from dgray.catalogue import ObjectiveSpec
from dgray.reporting.aggregate import model_keys
from dgray.reporting.legible import printable
from dgray.reporting.presentation import (
    BASE,
    PATH_KL,
    depends_on_sampler,
    divergences,
    objective,
    objective_rank,
    selection_columns,
)
from dgray.reporting.table import StudyTable

OBJECTIVE = "fit.objective"
NUM_REAL = "data.num_real"


def short(path: str) -> str:
    """Return the last part of a dotted path: ``width`` of ``discriminator.width``."""
    return path.rsplit(".", 1)[-1]


def number(value: object) -> str:
    """Format the value of an axis or a weight: no needless zeros, no invisible characters."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if float(value).is_integer() else f"{value:g}"
    return printable(str(value))


def weight_text(weight: float | None, calibrated: str = "calibrated weight") -> str:
    """Return ``w = 1``, or ``calibrated`` for None."""
    return calibrated if weight is None else f"w = {weight:g}"


def shown_columns(table: StudyTable, models: pd.DataFrame) -> list[str]:
    """Return the columns that figures show, of those that have values.

    These are the KL divergences (their changes if no density is known, as for images) and the
    scores of samples in the summary.
    """
    levels = [name for name in divergences() if models[name].notna().any()]
    changes = [f"{name}_change" for name in divergences()]
    scores = [
        name
        for name in table.summary_columns
        if depends_on_sampler(name) and name not in (*divergences(), *changes)
    ]
    return levels + [
        name
        for name in dict.fromkeys([*([] if levels else changes), *scores])
        if models[name].notna().any()
    ]


def plain(models: pd.DataFrame) -> pd.DataFrame:
    """Select models guided at all noise levels and in both stages, or of the first setting."""
    guided = models[models["objective"] != BASE.name]
    whole = guided["interval_low"].isna() & (guided["guided_stage"] == "both")
    if whole.any() or guided.empty:
        return guided[whole]
    first = guided.iloc[0]
    return guided[
        (guided["interval_low"].isna() | (guided["interval_low"] == first["interval_low"]))
        & (guided["interval_high"].isna() | (guided["interval_high"] == first["interval_high"]))
        & (guided["guided_stage"] == first["guided_stage"])
    ]


def main_weight(models: pd.DataFrame) -> float | None:
    """Return the constant weight nearest to 1, the exact correction; None if there is none."""
    weights = models.loc[~models["is_calibrated"].astype(bool), "guidance_weight"].dropna()
    return float(min(weights, key=lambda w: abs(w - 1))) if len(weights) else None


def at_weight(models: pd.DataFrame, weight: float | None) -> pd.DataFrame:
    """Select models at a constant weight, or at the calibrated one for None."""
    return calibrated(models) if weight is None else models[models["guidance_weight"] == weight]


def at_main_weight(table: StudyTable) -> tuple[pd.DataFrame, float | None]:
    """Select the plain models at the main weight; return the weight too."""
    models = plain(table.models)
    weight = main_weight(models)
    return at_weight(models, weight), weight


def calibrated(models: pd.DataFrame) -> pd.DataFrame:
    """Select models at the calibrated weight."""
    return models[models["is_calibrated"].astype(bool)]


def trained(models: pd.DataFrame, name: str | None = None) -> pd.DataFrame:
    """Select models of trained discriminators, or of one objective."""
    if name:
        return models[models["objective"].isin([name])]
    return _where(models, lambda spec: spec.is_trained)


def of_controls(models: pd.DataFrame, *, has_options: bool) -> pd.DataFrame:
    """Select models of controls with parameters of their own, or of exact ones without."""
    return _where(
        models,
        lambda spec: not spec.is_trained and spec != BASE and bool(spec.options) == has_options,
    )


def _where(models: pd.DataFrame, holds: Callable[[ObjectiveSpec], bool]) -> pd.DataFrame:
    """Select models of the objectives for which a condition holds."""
    names = [name for name in models["objective"].unique() if holds(objective(name))]
    return models[models["objective"].isin(names)]


def exact_controls(table: StudyTable) -> pd.DataFrame:
    """Select one model of every exact control, at the main weight."""
    models, _ = at_main_weight(table)
    return of_controls(models, has_options=False).drop_duplicates("objective")


def objectives(models: pd.DataFrame) -> list[str]:
    """Return the names of the trained objectives in the order of presentation."""
    return sorted(trained(models)["objective"].unique(), key=objective_rank)


def selection_column(table: StudyTable) -> str | None:
    """Return the column by which the best models are selected, the lowest value being best."""
    models = trained(table.models)
    return next((name for name in selection_columns() if models[name].notna().any()), None)


def best(table: StudyTable, name: str, base: str | None = None) -> pd.Series | None:
    """Return the best model of an objective: the one with the lowest ``selection_column``.

    In a study with searches, only the points that they selected are candidates.

    Args:
        table: the study.
        name: the objective.
        base: trial of the base of its data; None: any.
    """
    models, column = trained(table.models, name), selection_column(table)
    if base is not None:
        models = models[models["base_trial"] == base]
    if table.selected is not None:
        models = models[np.array([key in table.selected for key in model_keys(models)], bool)]
    if column is None or not models[column].notna().any():
        return None
    return models.loc[models[column].idxmin()]


def worst(models: pd.DataFrame) -> pd.Series | None:
    """Return the worst model: the highest held-out change, or else value, of the path KL.

    No setting of the same models is worse on held-out data, the best one included.
    """
    for column in (f"{PATH_KL}_change", PATH_KL):
        if models[column].notna().any():
            return models.loc[models[column].idxmax()]
    return None


def last_epoch(models: pd.DataFrame) -> pd.DataFrame:
    """Select the last checkpoint of every trial."""
    return models[models["epoch"] == models.groupby("trial")["epoch"].transform("max")]


def base_of(table: StudyTable, models: pd.DataFrame) -> pd.Series | None:
    """Return the unguided model on the same data as these models."""
    names = models["base_trial"].dropna().unique()
    bases = table.models[table.models["trial"].isin(names)]
    return bases.iloc[0] if len(bases) else None


def reference_of(
    table: StudyTable, models: pd.DataFrame, weight: float | None
) -> pd.Series | None:
    """Return the exact control (oracle) on the same data and base as these models."""
    same = table.models["base_trial"].isin(models["base_trial"].dropna().unique())
    exact = at_weight(plain(of_controls(table.models[same], has_options=False)), weight)
    return exact.iloc[0] if len(exact) else None


def describe(model: pd.Series, axes: tuple[str, ...]) -> str:
    """Describe a guided model by its axes, epoch, weight, interval and stage."""
    parts = _values(model, tuple(a for a in axes if a != OBJECTIVE))
    if objective(model["objective"]).is_trained:
        parts.append(f"epoch {number(model['epoch'])}")
    if model["objective"] != BASE.name:
        weight = None if model["is_calibrated"] else model["guidance_weight"]
        parts.append(weight_text(weight, "calibrated"))
    if not pd.isna(model["interval_low"]):
        parts.append(f"sigma in [{model['interval_low']:g}, {model['interval_high']:g}]")
    if model["guided_stage"] != "both":
        parts.append("predictor only")
    return ", ".join(parts)


def _values(model: pd.Series, axes: tuple[str, ...]) -> list[str]:
    return [f"{short(a)} {number(model[a])}" for a in axes if not pd.isna(model[a])]

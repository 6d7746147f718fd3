"""Numbers of figures as tables: what is drawn, with the settings that identify each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgray.reporting.figures.view import axis_names
from dgray.reporting.presentation import BASE
from dgray.reporting.selection import OBJECTIVE
from dgray.reporting.table import StudyTable


def numbers(
    table: StudyTable,
    models: pd.DataFrame,
    columns: Sequence[str],
    levels: Sequence[pd.Series | None] = (),
    *,
    settings: bool = True,
) -> pd.DataFrame:
    """Return columns of models with their standard errors, after the levels beside them.

    Args:
        table: the study.
        models: guided models, rows of ``StudyTable.models``.
        columns: metrics; each is followed by ``{column}_se`` where an error is known.
        levels: models without epochs that are drawn too, such as the base; None is left out.
        settings: whether the numbers depend on the guidance weight, interval and stages.
    """
    lines = _lines(table, models, levels)
    data = _identity(table, lines, settings)
    for name in columns:
        data[name] = lines[name].astype(float)
        if f"{name}_se" in lines and lines[f"{name}_se"].notna().any():
            data[f"{name}_se"] = lines[f"{name}_se"].astype(float)
    return data.reset_index(drop=True)


def numbers_by_noise(
    table: StudyTable,
    models: pd.DataFrame,
    columns: Sequence[str],
    levels: Sequence[pd.Series | None] = (),
    *,
    sigmas: Callable[[pd.Series], Any] = lambda model: middles(model["sigma_edges"]),
    settings: bool = True,
) -> pd.DataFrame:
    """Return columns of lists by noise level, a row per model and noise level.

    Args:
        table: the study.
        models: guided models, rows of ``StudyTable.models``.
        columns: columns of lists.
        levels: see ``numbers``.
        sigmas: returns the noise levels of the lists of a model.
        settings: see ``numbers``.
    """
    lines = _lines(table, models, levels)
    identity = _identity(table, lines, settings)
    parts = []
    for index, model in lines.iterrows():
        if any(model[name] is None for name in columns):
            continue
        part = pd.DataFrame({"sigma": np.asarray(sigmas(model), float)})
        for name in columns:
            part[name] = np.asarray(model[name], float)
            if isinstance(error := model.get(f"{name}_se"), np.ndarray):
                part[f"{name}_se"] = error
        owner = {name: identity.loc[index, name] for name in identity}
        parts.append(part.assign(**owner)[[*owner, *part]])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def middles(edges: Any) -> np.ndarray:
    """Return the geometric middle of each noise-level bin."""
    return np.asarray(np.sqrt(np.asarray(edges)[:-1] * np.asarray(edges)[1:]))


def _lines(
    table: StudyTable, models: pd.DataFrame, levels: Sequence[pd.Series | None]
) -> pd.DataFrame:
    order = [level.name for level in levels if level is not None]
    beside = [name for name in dict.fromkeys(order) if name not in models.index]
    return pd.concat([table.models.loc[beside], models.sort_index(kind="stable")])


def _identity(table: StudyTable, lines: pd.DataFrame, settings: bool) -> pd.DataFrame:
    """Objective, axes, epoch, setting and replicates; columns without values are left out."""
    data = pd.DataFrame({"objective": lines["objective"]})
    for axis, name in axis_names(table.axes).items():
        if axis != OBJECTIVE and lines[axis].notna().any():
            data[name] = lines[axis]
    data["epoch"] = lines["epoch"]
    if settings:
        data["weight"] = _weights(lines)
        for name in ("interval_low", "interval_high"):
            if lines[name].notna().any():
                data[name] = lines[name]
        if (lines["guided_stage"] != "both").any():
            data["guided_stage"] = lines["guided_stage"]
    data["replicates"] = lines["replicates"].astype(int)
    return data


def _weights(lines: pd.DataFrame) -> list[str]:
    return [
        "0"
        if row["objective"] == BASE.name
        else "calibrated"
        if row["is_calibrated"]
        else f"{row['guidance_weight']:g}"
        for _, row in lines.iterrows()
    ]

"""What a study and its trials say of themselves in Optuna's dashboard, beside fields and values.

Held-out values are for the reader alone: Optuna's samplers never look at user attributes.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pandas as pd

from dgray.config.search import COSTS, OptunaSearch
from dgray.search.records import Told
from dgray.search.verdict import SETTING


def name_metrics(study: optuna.Study, search: OptunaSearch) -> None:
    """Head the values with what they are; costs have no split."""
    names = [f"{name} (validation)" if name not in COSTS else name for name in search.metrics]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)


def attributes_of(told: Told) -> dict[str, Any]:
    """Names and values, numbers where they are some, so that a dashboard can sort by them."""
    setting = told.setting or {}
    weight = "calibrated" if setting.get("is_calibrated") else setting.get("guidance_weight")
    found = {
        "epoch": setting.get("epoch"),
        "guidance_weight": weight,
        **{f"held_out {name}": value for name, value in told.held_out.items()},
        **{f"excess {name}": value for name, value in told.excess.items()},
        "same_as_trial": told.of,
        "reason": told.reason,
    }
    return {name: value for name, value in found.items() if value is not None}


def held_out(rows: pd.DataFrame, told: Told, search: OptunaSearch) -> dict[str, float]:
    """The metrics on held-out data at the setting that was told, means over replicates."""
    if told.setting is None:
        return {}
    keep = pd.Series(True, index=rows.index)
    for name in SETTING:
        wanted = told.setting[name]
        keep &= rows[name].isna() if wanted is None else rows[name] == wanted
    of_quality = [name for name in (*search.metrics, *search.constraints) if name not in COSTS]
    means = {name: rows.loc[keep, name].astype(float).mean() for name in of_quality}
    return {name: float(value) for name, value in means.items() if pd.notna(value)}

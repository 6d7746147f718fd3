"""Conditions that select rows of a study: ``width=64``, ``num_real>=100``, ``objective=kl``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pandas as pd

from dgray.errors import FigureError
from dgray.reporting.figures.view import axis_names, value_text
from dgray.reporting.presentation import BASE, objective
from dgray.reporting.table import StudyTable

_CONDITION = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*")
_COMMA = re.compile(r",(?=\s*[\w.]+\s*[!<>=])")  # not within a value
_ORDERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OF_TRIALS = ("correction", "objective", "trial", "label")
_CORRECTION_KIND = "correction.kind"  # the field of a study
_OF_GUIDED = ("epoch", "weight")  # the base has neither; controls have no epoch
_OF_ROWS = ("sampler", "num_steps", "replicate")


@dataclass(frozen=True)
class _Condition:
    column: str
    symbol: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column}{self.symbol}{'|'.join(self.values)}"


def select(table: StudyTable, conditions: str | Iterable[str]) -> StudyTable:
    """Return the rows of a study that meet conditions, with their samples and losses.

    The unguided base is kept, as are trials that do not depend on a field: figures need them as
    references.

    Args:
        table: the study.
        conditions: ``NAME=VALUE`` with one of ``= != < <= > >=``; alternatives are separated by
            ``|`` and conditions by commas. Names are the training axes (their last part, or the
            dotted path), correction, objective, label, trial, epoch, weight, sampler, num_steps
            and replicate.

    Raises:
        FigureError: a condition cannot be read, or no row meets it.
    """
    names = _names(table)
    rows = table.rows
    for condition in _parsed(conditions):
        if condition.column not in names:
            near = get_close_matches(condition.column, names, n=1)
            raise FigureError(
                f"where {condition}: there is no field {condition.column!r}"
                f"{f' (did you mean {near[0]}?)' if near else ''}; there are {', '.join(names)}"
            )
        values = names[condition.column](rows)
        meets, is_kept = _meets(values, condition), _is_reference(rows, values, condition.column)
        if not (meets & ~is_kept).any():
            present = dict.fromkeys(values[~is_kept].dropna())
            texts = ", ".join(map(value_text, present)) or "none"
            raise FigureError(f"where {condition}: no row meets this; the values are {texts}")
        rows = rows[meets | is_kept]
    return _of_rows(table, rows)


def _parsed(conditions: str | Iterable[str]) -> list[_Condition]:
    texts = [conditions] if isinstance(conditions, str) else list(conditions)
    parts = [part for text in texts for part in _COMMA.split(text) if part.strip()]
    parsed = []
    for part in parts:
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise FigureError(
                f"where {part.strip()!r}: a condition must be NAME=VALUE with one of "
                "= != < <= > >=, such as width=64"
            )
        values = tuple(value.strip() for value in match[3].split("|"))
        parsed.append(_Condition(match[1], match[2], values))
    return parsed


def _names(table: StudyTable) -> dict[str, Callable[[pd.DataFrame], pd.Series]]:
    """Return a function from rows to values for each name of a condition."""

    def column(name: str) -> Callable[[pd.DataFrame], pd.Series]:
        return lambda rows: rows[name]

    shorts = {name: column(axis) for axis, name in axis_names(table.axes).items()}
    dotted = {axis: column(axis) for axis in table.axes}
    fixed = {name: column(name) for name in (*_OF_TRIALS, "epoch", *_OF_ROWS)}
    fixed[_CORRECTION_KIND] = column("correction")
    return shorts | fixed | {"weight": _weights} | dotted


def _weights(rows: pd.DataFrame) -> pd.Series:
    is_calibrated = rows["is_calibrated"].astype(bool)
    return rows["guidance_weight"].astype(object).mask(is_calibrated, "calibrated")


def _meets(values: pd.Series, condition: _Condition) -> np.ndarray:
    if condition.symbol in _ORDERS:
        (limit,) = condition.values if len(condition.values) == 1 else ("",)
        try:
            bound = float(limit)
        except ValueError:
            raise FigureError(f"where {condition}: {condition.symbol} needs one number") from None
        numbers = pd.to_numeric(values, errors="coerce")
        return _ORDERS[condition.symbol](numbers.to_numpy(float), bound)
    is_equal = np.array([any(_equal(v, text) for text in condition.values) for v in values], bool)
    return is_equal if condition.symbol == "=" else ~is_equal & values.notna().to_numpy()


def _equal(value: object, text: str) -> bool:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        try:
            return float(value) == float(text)
        except ValueError:
            return False
    return str(value) == text or str(value).strip('"') == text


def _is_reference(rows: pd.DataFrame, values: pd.Series, column: str) -> np.ndarray:
    """True for rows that a condition on a column does not concern."""
    is_base = np.array(rows["objective"] == BASE.name, bool)
    if column in _OF_ROWS:
        return np.zeros(len(rows), bool)
    if column in (*_OF_TRIALS, _CORRECTION_KIND, "fit.objective", "weight"):
        return is_base
    if column == "epoch":
        is_control = np.array([not objective(name).is_trained for name in rows["objective"]], bool)
        return np.array(is_base | is_control, bool)
    return np.array(values.isna(), bool)


def _of_rows(table: StudyTable, rows: pd.DataFrame) -> StudyTable:
    rows = rows.reset_index(drop=True)
    trials, checkpoints = set(rows["trial"]), set(zip(rows["trial"], rows["epoch"], strict=True))
    clouds, losses = table.clouds, table.losses
    if len(clouds):
        pairs = zip(clouds["trial"], clouds["epoch"], strict=True)
        clouds = clouds[[pair in checkpoints for pair in pairs]]
    return replace(table, rows=rows, clouds=clouds, losses=losses[losses["trial"].isin(trials)])

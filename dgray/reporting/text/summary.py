"""The summary table: the base, the best and the worst setting of each objective, and controls.

The best setting is selected on the validation split (column ``validation_change``) and reported on
held-out data, so that the reported number is not biased by the selection. The worst setting is the
largest held-out change of the path KL at the main weight: it shows harm, and is no recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from dgray.reporting.presentation import BASE, PATH_KL, SELECTION, divergences, objective
from dgray.reporting.selection import (
    at_main_weight,
    describe,
    objectives,
    of_controls,
    trained,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Estimate, estimate


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary; ``estimates`` holds the columns that have a value."""

    name: str
    setting: str
    objective: str
    estimates: Mapping[str, Estimate]


def selection_columns() -> tuple[str, ...]:
    """Return the columns that can select a setting: on validation, or else on held-out data."""
    levels = [name for name, metric in divergences().items() if metric.source in ("path", "flow")]
    return (SELECTION, *levels)


def best(table: StudyTable, name: str) -> tuple[pd.Series, str] | None:
    """Return the best model of an objective on validation, and the column that selected it."""
    models = trained(table.models, name)
    for column in selection_columns():
        if models[column].notna().any():
            return models.loc[models[column].idxmin()], column
    return None


def worst(models: pd.DataFrame) -> pd.Series | None:
    """Return the model with the largest change, or else value, of the path KL."""
    for column in (f"{PATH_KL}_change", PATH_KL):
        if models[column].notna().any():
            return models.loc[models[column].idxmax()]
    return None


def selection_rule(table: StudyTable) -> str:
    """Return a sentence on how the best settings were selected."""
    chosen = [best(table, name) for name in objectives(table.models)]
    columns = {pair[1] for pair in chosen if pair}
    if not columns:
        return ""
    if columns == {SELECTION}:
        return (
            "The best setting of an objective is the one with the lowest denoising error on the "
            "validation split (column validation_change). Its KL divergences are reported on "
            "held-out data, which took no part in the selection."
        )
    return (
        f"This study has no validation change, so the best settings were selected by the held-out "
        f"{' and '.join(sorted(columns))} itself: these numbers are optimistic."
    )


def summary(table: StudyTable) -> tuple[SummaryRow, ...]:
    """Return the rows of the base, the best and worst of every objective, and controls."""
    return tuple(_rows(table))


def _rows(table: StudyTable) -> Iterator[SummaryRow]:
    models, _ = at_main_weight(table)
    for _, model in table.models[table.models["objective"] == BASE.name].head(1).iterrows():
        yield _row(table, BASE.title, model)
    names = objectives(table.models)
    for name in names:
        if chosen := best(table, name):
            yield _row(table, f"best {objective(name).title}", chosen[0])
    varied = of_controls(models, has_options=True)
    for name in [*names, *varied["objective"].unique()]:
        model = worst(models[models["objective"] == name])
        if model is not None:
            yield _row(table, f"worst {objective(name).title}", model)
    for _, model in of_controls(models, has_options=False).drop_duplicates("objective").iterrows():
        yield _row(table, objective(model["objective"]).subject.removeprefix("The "), model)


def _row(table: StudyTable, name: str, model: pd.Series) -> SummaryRow:
    values = {column: estimate(model, column) for column in table.summary_columns}
    estimates = {column: value for column, value in values.items() if value is not None}
    if "kl" in estimates:
        estimates.pop("kl_change", None)  # the difference of two rows of the table
    setting = "" if model["objective"] == BASE.name else describe(model, table.axes)
    return SummaryRow(name, setting, model["objective"], estimates)

"""The summary table: the base, the best and the worst model of each objective, and controls.

``best`` and ``worst`` (``dgray.reporting.selection``) define these settings for the whole report.
The best model is selected on the validation split and reported on held-out data, so that the
reported number is not biased by the selection. The worst model is selected on held-out data: it
shows harm, and is no recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from dgray.reporting.estimate import Estimate, estimate
from dgray.reporting.presentation import BASE, SELECTION, objective
from dgray.reporting.selection import (
    best,
    describe,
    exact_controls,
    objectives,
    of_controls,
    selection_column,
    worst,
)
from dgray.reporting.table import StudyTable


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary; ``estimates`` holds the columns that have a value."""

    name: str
    setting: str
    objective: str
    estimates: Mapping[str, Estimate]


def selection_rule(table: StudyTable) -> str:
    """Return how the best and worst models were selected; empty without trained objectives."""
    column = selection_column(table)
    if column is None:
        return ""
    worst_rule = (
        " The worst model is the one with the highest held-out change of the path KL, over all "
        "settings of the objective."
    )
    if table.selected is not None:
        return (
            "The best model of an objective is the point that its search selected; of several "
            f"searches, the one with the lowest {column}.{worst_rule}"
        )
    if column == SELECTION:
        return (
            "The best model of an objective is the one with the lowest change of the denoising "
            "error on the validation split (column validation_change), over all its settings. Its "
            "scores are reported on held-out data, which took no part in the selection."
            f"{worst_rule}"
        )
    return (
        f"This study has no validation change, so the best models were selected by the held-out "
        f"{column} itself: these numbers are optimistic.{worst_rule}"
    )


def summary(table: StudyTable) -> tuple[SummaryRow, ...]:
    """Return the rows of the base, the best and worst of every objective, and controls."""
    return tuple(_rows(table))


def _rows(table: StudyTable) -> Iterator[SummaryRow]:
    models = table.models
    for _, model in models[models["objective"] == BASE.name].head(1).iterrows():
        yield _row(table, BASE.title, model)
    names = objectives(models)
    for name in names:
        chosen = best(table, name)
        if chosen is not None:
            yield _row(table, f"best {objective(name).title}", chosen)
    varied = of_controls(models, has_options=True)
    for name in [*names, *varied["objective"].unique()]:
        model = worst(models[models["objective"] == name])
        if model is not None:
            yield _row(table, f"worst {objective(name).title}", model)
    for _, model in exact_controls(table).iterrows():
        yield _row(table, objective(model["objective"]).subject.removeprefix("The "), model)


def _row(table: StudyTable, name: str, model: pd.Series) -> SummaryRow:
    values = {column: estimate(model, column) for column in table.summary_columns}
    estimates = {column: value for column, value in values.items() if value is not None}
    if "kl" in estimates:
        estimates.pop("kl_change", None)  # the difference of two rows of the table
    setting = "" if model["objective"] == BASE.name else describe(model, table.axes)
    return SummaryRow(name, setting, model["objective"], estimates)

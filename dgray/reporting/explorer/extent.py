"""Trials that the interactive page holds: all of a study, or as many as a browser loads easily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgray.reporting.explorer.headline import headline
from dgray.reporting.figures.view import spaced
from dgray.reporting.selection import best, objectives, worst
from dgray.reporting.table import StudyTable

MAX_NUMBERS = 800_000  # of metrics and curves by noise level, about 6 MB


def bounded(table: StudyTable, shown: StudyTable, lists: Sequence[str]) -> tuple[StudyTable, int]:
    """Leave out trials, evenly over the study, until the page can hold the rest.

    Bases, and the models of the first figure and the best and worst of the summary, are kept.

    Args:
        table: the study.
        shown: see ``explorer_data``.
        lists: columns of lists on the page.

    Returns:
        The table without the rows of these trials, and their number.
    """
    rows = table.aggregated
    num_lists = sum(
        3 * len(values) for name in lists if name in rows for values in rows[name].dropna()
    )
    num_lists //= max(1, len(rows[["sampler", "num_steps"]].drop_duplicates()))  # one is shown
    num_metrics = sum(rows[name].notna().any() for name in table.score_columns)
    size = 2 * len(rows) * num_metrics + num_lists
    trials = list(table.rows["trial"].unique())
    most = int(len(trials) * MAX_NUMBERS / max(size, 1))
    if most >= len(trials):
        return table, 0
    index = {trial: i for i, trial in enumerate(trials)}
    first_figure = headline(shown, index)
    named = {trials[i] for i in first_figure["trials"]} if first_figure else set()
    for name in objectives(shown.models):
        pair = best(shown, name), worst(shown.models[shown.models["objective"] == name])
        named |= {model["trial"] for model in pair if model is not None}
    named |= set(table.models["base_trial"].dropna())
    first = [trial for trial in trials if trial in named]
    rest = [trial for trial in trials if trial not in named]
    rest = spaced(rest, max(0, most - len(first)))
    kept = table.rows[table.rows["trial"].isin([*first, *rest])]
    return replace(table, rows=kept), len(trials) - len(first) - len(rest)

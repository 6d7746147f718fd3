"""Evaluation settings of the rows that a figure shows, and what their error bars are over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from dgray.reporting.presentation import BASE, depends_on_sampler, sampler_preference
from dgray.reporting.table import StudyTable


def conditions(table: StudyTable, models: pd.DataFrame, columns: Sequence[str]) -> Iterator[str]:
    """Yield the interval, stages and samplers of some models, where the study has several.

    Args:
        table: the study.
        models: guided models with one interval and stage.
        columns: metrics that are shown.
    """
    guided = table.models[table.models["objective"] != BASE.name]
    low, high = models["interval_low"].iloc[0], models["interval_high"].iloc[0]
    if not pd.isna(low):
        yield f"guided at sigma {low:g} to {high:g}"
    elif guided["interval_low"].notna().any():
        yield "guided at all noise levels"
    stage = models["guided_stage"].iloc[0]
    if stage != "both":
        yield f"guided stage: {stage}"
    elif (guided["guided_stage"] != "both").any():
        yield "both stages guided"
    yield from dict.fromkeys(
        text
        for column in columns
        if depends_on_sampler(column)
        for text in _sampler(table, column)
    )


def _sampler(table: StudyTable, column: str) -> Iterator[str]:
    """The sampler of a metric as ``merge_samplers`` selects it, if several have the metric."""
    rows = table.aggregated[table.aggregated[column].notna()]
    pairs = set(zip(rows["sampler"], rows["num_steps"], strict=True))
    if len(pairs) > 1:
        name, steps = min(pairs, key=lambda pair: (sampler_preference(pair[0]), -pair[1]))
        yield f"{table.title(column)}: sampler {name}, {steps} steps"


def errors_note(models: pd.DataFrame, marks: str = "Bands and bars") -> str:
    """Return a sentence on the error bars: what they are over, and what they leave out."""
    counts = sorted({int(count) for count in models["replicates"]})
    over = f"{marks}: ± 1 standard error over evaluation points"
    if counts[-1] < 2:
        return f"{over}; with one replicate they leave out the spread between seeds."
    some = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{over} and {some} replicates."

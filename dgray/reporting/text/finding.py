"""The finding of a study: statements computed from its table, including unfavourable ones.

A statement whose numbers are missing is left out. Terminal and page print the same statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgray.data.summary import counted
from dgray.reporting.comparisons import Comparison, Comparisons, compare, compared_metrics
from dgray.reporting.estimate import estimate
from dgray.reporting.presentation import BASE, distances, in_sentence, objective
from dgray.reporting.searches import SearchPoints
from dgray.reporting.selection import describe, exact_controls, of_controls, trained, worst
from dgray.reporting.table import StudyTable
from dgray.reporting.text.agreement import AGREEMENT, agreement
from dgray.reporting.text.costs import COSTS, cost_statements
from dgray.reporting.text.effects import EFFECT, calibrated_effects, diverged, effects
from dgray.reporting.text.limitations import limitations, method
from dgray.reporting.text.ratios import RATIOS, ratio_statements
from dgray.reporting.text.samples import SAMPLES, sample_statements
from dgray.reporting.text.searches import search_statements
from dgray.reporting.text.statement import Statement, Tone, listed, p_text
from dgray.reporting.text.summary import SummaryRow, selection_rule, summary

BEST, CONTROLS = "best models", "controls"
ANSWERS = {  # values of the field ``question`` of a study -> topic of the answer
    "agreement": AGREEMENT,
    "effect": EFFECT,
    "objectives": BEST,
    "controls": CONTROLS,
    "corrections": COSTS,
    "ratio": RATIOS,
    "samples": SAMPLES,
}


@dataclass(frozen=True)
class Finding:
    """Results of a study: statements and a summary table.

    Attributes:
        statements: all statements; those that answer the question of the study come first.
        columns: columns of the summary and their headings.
        selection: how the best and worst models were selected.
        method: how significance was judged.
        comparisons: the tests behind the statements.
    """

    statements: tuple[Statement, ...]
    summary: tuple[SummaryRow, ...]
    columns: Mapping[str, str]
    selection: str
    method: str
    comparisons: Comparisons

    @property
    def answer(self) -> tuple[Statement, ...]:
        """The statements of the first topic."""
        return tuple(s for s in self.statements if s.topic == self.statements[0].topic)


def find(
    table: StudyTable, question: str = "", searches: tuple[SearchPoints, ...] = ()
) -> Finding:
    """Return all statements that the numbers of a study allow, in reading order.

    Args:
        table: rows of the study; of a study with searches, those of the selected points.
        question: question of the study (see ``StudyConfig``), answered first; empty: whether
            metrics agree if there are both divergences and distances, else the effect of
            guidance, else controls.
        searches: searches of the study.
    """
    comparisons = compare(table)
    statements = [
        *cost_statements(table, comparisons),
        *effects(table, comparisons),
        *sample_statements(table),
        *search_statements(searches),
        *_best_settings(table, comparisons),
        *calibrated_effects(table, comparisons),
        *diverged(table, comparisons),
        *agreement(table, comparisons),
        *_bases(table),
        *_controls(table, comparisons),
        *ratio_statements(table),
        *limitations(table, comparisons),
    ]
    first = ANSWERS.get(question) or ANSWERS[_default_question(table)]
    statements.sort(key=lambda statement: statement.topic != first)
    return Finding(
        statements=tuple(statements),
        summary=summary(table),
        columns=table.summary_columns,
        selection=selection_rule(table),
        method=method(comparisons),
        comparisons=comparisons,
    )


def _default_question(table: StudyTable) -> str:
    if trained(table.models).empty:
        return "controls"
    are_distances = {metric in distances() for metric in compared_metrics(table)}
    return "agreement" if len(are_distances) > 1 else "effect"


def _bases(table: StudyTable) -> Iterator[Statement]:
    bases = table.models[table.models["objective"] == BASE.name]
    for _, base in bases.iterrows():
        which = f" ({base['label']})" if len(bases) > 1 else ""
        if levels := _levels(table, base):
            yield Statement(
                "base", f"{BASE.subject}{which} differs from the data by {listed(levels)}."
            )


def _levels(table: StudyTable, model: pd.Series) -> list[str]:
    """Return the divergences and the distance of a model to the data, formatted."""
    values = [(metric, estimate(model, metric)) for metric in compared_metrics(table)]
    return [
        f"{value}{' ' * bool(table.unit(metric))}{table.unit(metric)} ({table.title(metric)})"
        for metric, value in values
        if value
    ]


def _best_settings(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Compare the best models of two objectives in all metrics."""
    groups: dict[tuple[object, object], list[Comparison]] = {}
    for comparison in comparisons.between:
        assert comparison.reference is not None
        key = (comparison.model["objective"], comparison.model["base_trial"])
        groups.setdefault(key, []).append(comparison)
    for group in groups.values():
        yield Statement(BEST, _comparison_text(table, group), _verdict(group))


def _comparison_text(table: StudyTable, group: list[Comparison]) -> str:
    model, reference = group[0].model, group[0].reference
    assert reference is not None
    subject, other = (in_sentence(objective(row["objective"])) for row in (model, reference))
    parts = [f"Its {table.title(c.metric)} {_relation(table, c)}." for c in group]
    return (
        f"The best model of {subject} ({describe(model, table.axes)}) is compared with that of "
        f"{other} ({describe(reference, table.axes)}) on the same held-out data, in "
        f"{len(group[0].replicates)} pairs of replicates. {' '.join(parts)}"
    )


def _relation(table: StudyTable, comparison: Comparison) -> str:
    if not np.isfinite(comparison.estimate.value):
        return "cannot be compared, as it diverged in a replicate"
    unit = table.unit(comparison.metric)
    value = f"{comparison.estimate.signed}{f' {unit}' if unit else ''}"
    if not comparison.is_tested:
        return f"differs by {value} (not tested)"
    relation = {1: "is significantly higher", -1: "is significantly lower"}.get(
        comparison.sign, "does not differ significantly"
    )
    return f"{relation} (difference {value}, {p_text(comparison)})"


def _verdict(group: list[Comparison]) -> Tone:
    """``gain`` if a metric is significantly lower and none higher; ``caution`` if one is."""
    signs = {comparison.sign for comparison in group}
    return "caution" if 1 in signs else "gain" if -1 in signs else "neutral"


def _controls(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    varied = of_controls(table.models, has_options=True)
    for name in varied["objective"].unique():
        control = worst(varied[varied["objective"] == name])
        if control is None or not (levels := _levels(table, control)):
            continue
        gap = estimate(control, "cross_entropy_gap")
        near = f"has a cross-entropy {gap} nats above the optimum and " if gap else ""
        text = (
            f"{objective(name).subject} at its worst setting ({describe(control, table.axes)}) "
            f"{near}differs from the data by {listed(levels)}. "
        )
        group = [c for c in comparisons.controls if c.model["objective"] == name]
        counts = [_count_text(table, group, metric) for metric in compared_metrics(table)]
        text += f"Over all its settings and weights it {'; it '.join(filter(None, counts))}."
        is_harmful = any(comparison.sign > 0 for comparison in group)
        yield Statement(CONTROLS, text, "harm" if is_harmful else "neutral")
    for _, model in exact_controls(table).iterrows():
        if levels := _levels(table, model):
            subject = f"{objective(model['objective']).subject} at {describe(model, table.axes)}"
            yield Statement(CONTROLS, f"{subject} differs from the data by {listed(levels)}.")


def _count_text(table: StudyTable, group: list[Comparison], metric: str) -> str:
    signs = [c.sign for c in group if c.metric == metric and c.is_tested]
    if not signs:
        return ""
    return (
        f"raises the {table.title(metric)} significantly in {signs.count(1) or 'none'} of "
        f"{counted(len(signs), table.model_kind)} and lowers it in {signs.count(-1) or 'none'}"
    )

"""The finding of a study: statements computed from its table, including unfavourable ones.

A difference counts if it exceeds three standard errors. A statement whose numbers are missing is
left out. Terminal and page print the same statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgray.reporting.presentation import BASE, PATH_KL, divergences, objective
from dgray.reporting.selection import (
    at_main_weight,
    base_of,
    calibrated,
    describe,
    objectives,
    of_controls,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.text.limitations import limitations
from dgray.reporting.text.statement import (
    BEYOND,
    COUNTED,
    THRESHOLD,
    Estimate,
    Statement,
    Tone,
    change,
    counted,
    errors_text,
    estimate,
    is_unreliable,
    listed,
)
from dgray.reporting.text.summary import SummaryRow, best, selection_rule, summary, worst

# The comparison for which the project exists (Verine et al. 2025, arXiv:2503.16117).
_PROPOSED, _USUAL = "kl", "cross_entropy"


@dataclass(frozen=True)
class Finding:
    """Results of a study: statements and a summary table.

    Attributes:
        columns: columns of the summary and their headings.
        selection: how the best settings were selected.
    """

    statements: tuple[Statement, ...]
    summary: tuple[SummaryRow, ...]
    columns: Mapping[str, str]
    selection: str


def find(table: StudyTable) -> Finding:
    """Return all statements that the numbers of a study allow, in reading order."""
    statements = [
        *_bases(table),
        *_worst_cases(table),
        *_counts(table),
        *_comparison(table),
        *_calibrated(table),
        *_controls(table),
        *_agreement(table),
        *limitations(table),
    ]
    return Finding(tuple(statements), summary(table), table.summary_columns, selection_rule(table))


def _bases(table: StudyTable) -> Iterator[Statement]:
    bases = table.models[table.models["objective"] == BASE.name]
    for _, base in bases.iterrows():
        which = f" ({base['label']})" if len(bases) > 1 else ""
        if levels := _levels(base):
            yield Statement(
                "base", f"{BASE.subject}{which} differs from the data by {listed(levels)}."
            )


def _levels(model: pd.Series) -> list[str]:
    """Return the KL divergences of a model, formatted."""
    values = [(metric, estimate(model, name)) for name, metric in divergences().items()]
    return [f"{value} nats ({metric.title})" for metric, value in values if value]


def _worst_cases(table: StudyTable) -> Iterator[Statement]:
    models, _ = at_main_weight(table)
    for name in objectives(models):
        for metric in divergences():
            changes = change(trained(models, name), metric)
            if len(changes):
                yield _worst_case(table, changes, metric)


def _worst_case(table: StudyTable, changes: pd.DataFrame, metric: str) -> Statement:
    """Describe the largest increase above the threshold, or else the most significant change."""
    raised = changes[changes["in_errors"] > THRESHOLD]
    index = raised["change"].idxmax() if len(raised) else changes["in_errors"].idxmax()
    model, row = table.models.loc[index], changes.loc[index]
    by = Estimate(row["change"], row["change_se"])
    detail = f"a change of {by} nats ({errors_text(row['in_errors'])})"
    value = estimate(model, metric)  # unknown for images, where only the change is known
    if value is not None:
        base = base_of(table, model.to_frame().T)
        level = estimate(base, metric) if base is not None else None
        from_base = f" (base: {level})" if level is not None else ""
        detail = f"{value} nats{from_base}, {detail}"
    detail = f"{describe(model, table.axes)}: {detail}"
    spec, title = objective(model["objective"]), divergences()[metric].title
    subject, total = spec.subject, counted(len(changes), "guided model")
    if len(raised):
        tone: Tone = "harm"
        cases = f"raises the {title} {BEYOND} in {len(raised)} of {total}, most at"
    elif row["in_errors"] < -THRESHOLD:
        tone = "gain"
        cases = f"lowers the {title} {BEYOND} in all of {total}, least significantly at"
    else:
        tone = "neutral"
        cases = (
            f"raises the {title} {BEYOND} in none of {total}; relative to its standard error, the "
            f"change is largest at"
        )
    return Statement(f"worst case: {spec.title}", f"{subject} {cases} {detail}.", tone)


def _counts(table: StudyTable) -> Iterator[Statement]:
    models, weight = at_main_weight(table)
    for name in objectives(models):
        parts, ups, downs = [], 0, 0
        for metric, spec in divergences().items():
            changes = change(trained(models, name), metric)
            if spec.source == "samples" or changes.empty:
                continue
            up = int((changes["in_errors"] > THRESHOLD).sum())
            down = int((changes["in_errors"] < -THRESHOLD).sum())
            ups, downs = ups + up, downs + down
            of = counted(len(changes), "guided model")
            parts.append(f"raises the {spec.title} in {up} of {of} and lowers it in {down}")
        if parts:
            subject = f"{objective(name).subject} at {weight_text(weight)}"
            text = f"{subject} {'; it '.join(parts)}. {COUNTED}"
            tone: Tone = "harm" if ups > downs else "gain" if not ups and downs else "neutral"
            yield Statement("counts", text, tone)


def _comparison(table: StudyTable) -> Iterator[Statement]:
    proposed, usual = best(table, _PROPOSED), best(table, _USUAL)
    if proposed is None or usual is None:
        return
    pair = pd.DataFrame([proposed[0], usual[0]])
    levels = pair.dropna(axis=1).columns  # the others are known as changes only
    gaps: list[Estimate] = []
    parts = []
    for metric, spec in divergences().items():
        a, b = (_level_or_change(row, metric) for _, row in pair.iterrows())
        if a is None or b is None or is_unreliable(pair, metric).any():
            continue
        gaps.append(Estimate(a.value - b.value, float(np.hypot(a.error, b.error))))
        quantity = spec.title if metric in levels else f"change of the {spec.title}"
        parts.append(
            f"Its {quantity} {_relation(gaps[-1])}: {a} compared with {b} nats "
            f"({errors_text(gaps[-1].in_errors)})."
        )
    if parts:
        settings = [describe(row, table.axes) for _, row in pair.iterrows()]
        text = (
            f"The best setting of the {objective(_PROPOSED).title} ({settings[0]}) is compared "
            f"with that of {objective(_USUAL).title} ({settings[1]}). {' '.join(parts)}"
        )
        yield Statement("best settings", text, _verdict(gaps))


def _relation(gap: Estimate) -> str:
    if abs(gap.in_errors) > THRESHOLD:
        return "is lower" if gap.value < 0 else "is higher"
    return f"does not differ {BEYOND}"


def _level_or_change(model: pd.Series, metric: str) -> Estimate | None:
    """A KL divergence, or its change against the base: both have the same differences."""
    return estimate(model, metric) or estimate(model, f"{metric}_change")


def _verdict(gaps: list[Estimate]) -> Tone:
    """``gain`` if a metric is clearly lower and none clearly higher; ``caution`` if one is."""
    if any(gap.in_errors > THRESHOLD for gap in gaps):
        return "caution"
    return "gain" if any(gap.in_errors < -THRESHOLD for gap in gaps) else "neutral"


def _calibrated(table: StudyTable) -> Iterator[Statement]:
    changes = change(calibrated(trained(table.models)), PATH_KL)
    if changes.empty:
        return
    largest = changes.loc[changes["change"].idxmax()]
    surest = changes.loc[changes["in_errors"].idxmax()]
    above = int((changes["in_errors"] > THRESHOLD).sum())
    by = Estimate(largest["change"], largest["change_se"])
    text = (
        f"With the calibrated weight the {divergences()[PATH_KL].title} is above that of the base "
        f"{BEYOND} in {above or 'none'} of {counted(len(changes), 'guided model')}. The largest "
        f"change is {by} nats ({objective(largest['objective']).title}, "
        f"{describe(largest, table.axes)}); the largest change relative to its standard error "
        f"is {errors_text(surest['in_errors'])}."
    )
    yield Statement("calibrated weight", text, "harm" if above else "gain")


def _controls(table: StudyTable) -> Iterator[Statement]:
    models, weight = at_main_weight(table)
    exact = of_controls(models, has_options=False)
    for _, model in exact.drop_duplicates("objective").iterrows():
        if levels := _levels(model):
            subject = f"{objective(model['objective']).subject} at {weight_text(weight)}"
            yield Statement("controls", f"{subject} differs from the data by {listed(levels)}.")
    varied = of_controls(models, has_options=True)
    for name in varied["objective"].unique():
        control = worst(varied[varied["objective"] == name])
        if control is None or not (levels := _levels(control)):
            continue
        gap = estimate(control, "cross_entropy_gap")
        near = f"has a cross-entropy {gap} nats above the optimum and " if gap else ""
        text = (
            f"{objective(name).subject} ({describe(control, table.axes)}) {near}differs from the "
            f"data by {listed(levels)}."
        )
        changes = change(control.to_frame().T, PATH_KL)
        is_harmful = bool((changes["in_errors"] > THRESHOLD).any())
        yield Statement("controls", text, "harm" if is_harmful else "neutral")


def _agreement(table: StudyTable) -> Iterator[Statement]:
    """Compare models whose KL of the ODE rises with their other KL divergences."""
    models, weight = at_main_weight(table)
    harmed = change(models, "kl")
    harmed = harmed[harmed["in_errors"] > THRESHOLD]
    for name, spec in divergences().items():
        others = change(harmed, name)
        if name == "kl" or others.empty:
            continue
        missed = int((others["in_errors"] <= THRESHOLD).sum())
        text = (
            f"The {divergences()['kl'].title} rises {BEYOND} in "
            f"{counted(len(others), 'guided model')} at {weight_text(weight)}; the {spec.title} "
        )
        text += (
            f"does not rise in {missed} of them, so the two measures disagree."
            if missed
            else "rises as well in all of them, so the two measures agree."
        )
        yield Statement("agreement of metrics", text, "caution" if missed else "neutral")

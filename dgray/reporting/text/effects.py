"""Statements on the effect of corrections: comparisons of corrected models with the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dgray.data.summary import counted
from dgray.reporting.comparisons import Comparison, Comparisons
from dgray.reporting.estimate import rounded
from dgray.reporting.presentation import in_sentence, objective
from dgray.reporting.selection import describe, weight_text
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement, Tone, change_text, listed, p_text

EFFECT, CALIBRATED, DIVERGED = "effect on the metrics", "calibrated weight", "diverged replicates"
_ROUNDING = 1e-8  # nats; the same densities in a batch of another size
_SHOWN = 3  # models with diverged replicates that a statement names


def effects(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield a statement for every trained objective and metric, over all its models."""
    for name, metric, group in _by_objective_and_metric(comparisons.trained):
        spec, title = objective(name), table.title(metric)
        tested = [c for c in group if c.is_tested]
        if tested:
            text = f"{spec.subject} raises the {title} {_counts(table, tested)}"
        else:
            text = f"{spec.subject} changes the {title} {_range(table, group)}"
        yield Statement(EFFECT, f"{text} {_scope(group, len(tested))}", _tone(tested))


def calibrated_effects(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield a statement for every metric on the trained models with the calibrated weight."""
    shown = [c for c in comparisons.trained if c.model["is_calibrated"] and c.is_tested]
    for metric in dict.fromkeys(c.metric for c in shown):
        group = [c for c in shown if c.metric == metric]
        ups = [c for c in group if c.sign > 0]
        highest = max(group, key=lambda c: c.estimate.value)
        owner = f"{in_sentence(objective(highest.model['objective']))}, "
        text = (
            f"With the calibrated weight the {table.title(metric)} is significantly above that "
            f"of the base in {len(ups) or 'none'} of {counted(len(group), table.model_kind)} and "
            f"below it in {sum(c.sign < 0 for c in group) or 'none'}. "
            f"{_extreme(table, highest, 'highest change', owner)}"
        )
        yield Statement(CALIBRATED, text, _tone(group))


def diverged(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield a statement for every objective and metric of which a replicate diverged."""
    for name, metric, group in _by_objective_and_metric(comparisons.trained):
        cases = [c for c in group if c.num_diverged]
        if not cases:
            continue
        cases.sort(key=lambda c: c.finite.max(initial=-np.inf), reverse=True)
        shown = "; ".join(_case(table, c) for c in cases[:_SHOWN])
        more = f"; and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
        text = (
            f"{objective(name).subject}: replicates diverged in {len(cases)} of "
            f"{counted(len(group), table.model_kind)} by their change of the "
            f"{table.title(metric)}, so that its mean and standard error describe no typical "
            f"replicate: {shown}{more}."
        )
        yield Statement(DIVERGED, text, "caution")


def _by_objective_and_metric(
    comparisons: Sequence[Comparison],
) -> Iterator[tuple[str, str, list[Comparison]]]:
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        key = (comparison.model["objective"], comparison.metric)
        groups.setdefault(key, []).append(comparison)
    for (name, metric), group in groups.items():
        yield name, metric, group


def _counts(table: StudyTable, tested: Sequence[Comparison]) -> str:
    """Return the counts of significant changes by weight, and the highest change."""
    ups = [c for c in tested if c.sign > 0]
    downs = [c for c in tested if c.sign < 0]
    highest = max(ups or tested, key=lambda c: c.estimate.value)
    which = "largest significant rise" if ups else "highest change"
    total = counted(len(tested), table.model_kind)
    return (
        f"significantly in {len(ups) or 'none'} of {total}{_by_weight(ups)} and lowers it in "
        f"{len(downs) or 'none'}{_by_weight(downs)}. {_extreme(table, highest, which)}"
    )


def _extreme(table: StudyTable, highest: Comparison, which: str, owner: str = "") -> str:
    """Return the sentence on the highest change; a weight of 0 has none but by rounding."""
    if abs(highest.estimate.value) < _ROUNDING:
        return "No change is above 0."
    setting = describe(highest.model, table.axes)
    return f"The {which} is {_change(table, highest)}; {owner}{setting}."


def _by_weight(comparisons: Sequence[Comparison]) -> str:
    """Return the number of models at each weight: `` (2 at w = 1, 3 at calibrated weight)``."""
    counts = dict.fromkeys(_weights(comparisons), 0)
    for comparison in comparisons:
        counts[_weight(comparison)] += 1
    parts = ", ".join(f"{count} at {weight}" for weight, count in counts.items())
    return f" ({parts})" if parts else ""


def _weights(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the guidance weights in ascending order, the calibrated one last."""
    weights = {_weight(c): float(c.model["guidance_weight"]) for c in comparisons}
    return sorted(weights, key=lambda text: (np.isnan(weights[text]), weights[text]))


def _range(table: StudyTable, group: Sequence[Comparison]) -> str:
    """Return the range of the changes of models that cannot be tested."""
    finite = [c for c in group if np.isfinite(c.estimate.value)]
    if not finite:
        return f"by no finite amount in {counted(len(group), table.model_kind)}."
    low, high = (f(finite, key=lambda c: c.estimate.value) for f in (min, max))
    unit = _unit(table, group[0].metric)
    has_one = all(len(c.replicates) == 1 for c in group)
    reason = "with one replicate, " if has_one else ""
    return (
        f"by {rounded(low.estimate.value)} to {rounded(high.estimate.value)}{unit} in "
        f"{counted(len(finite), table.model_kind)}, most at {describe(high.model, table.axes)}; "
        f"{reason}no change was tested."
    )


def _scope(group: Sequence[Comparison], num_tested: int) -> str:
    """Return which guidance weights are covered, and how many models were not tested."""
    scope = f"Weights covered: {listed(_weights(group))}."
    diverged = sum(bool(np.isinf(c.estimate.value)) for c in group)
    left = len(group) - num_tested - diverged
    if num_tested and left:
        scope += f" {counted(left, 'further model')} could not be tested."
    if num_tested and diverged:
        scope += f" {counted(diverged, 'further model')} diverged."
    return scope


def _weight(comparison: Comparison) -> str:
    model = comparison.model
    return weight_text(None if model["is_calibrated"] else model["guidance_weight"])


def _tone(tested: Sequence[Comparison]) -> Tone:
    signs = {c.sign for c in tested}
    return "harm" if 1 in signs else "gain" if -1 in signs else "neutral"


def _change(table: StudyTable, comparison: Comparison) -> str:
    spread = f"; {_spread(comparison)}" if comparison.num_diverged else ""
    return f"{change_text(table, comparison)} ({p_text(comparison)}{spread})"


def _case(table: StudyTable, comparison: Comparison) -> str:
    text = f"at {describe(comparison.model, table.axes)}: {_spread(comparison)}"
    if not np.isfinite(comparison.estimate.value):
        return text
    return f"{text}, mean {comparison.estimate.signed}{_unit(table, comparison.metric)}"


def _spread(comparison: Comparison) -> str:
    """Return how many replicates diverged, with the median and range of the finite ones."""
    total = counted(len(comparison.replicates), "replicate")
    values = comparison.finite
    text = f"{comparison.num_diverged} of {total} diverged"
    if not len(values):
        return text
    low, middle, high = map(rounded, (values[0], float(np.median(values)), values[-1]))
    return f"{text}, median {middle}, range {low} to {high}"


def _unit(table: StudyTable, metric: str) -> str:
    unit = table.unit(metric)
    return f" {unit}" if unit else ""

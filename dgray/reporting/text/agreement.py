"""Statements on whether two metrics agree on the effect of corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from dgray.data.summary import counted
from dgray.reporting.comparisons import Comparison, Comparisons
from dgray.reporting.presentation import distances, in_sentence, objective
from dgray.reporting.selection import describe
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement, Tone, change_text, p_text

AGREEMENT = "agreement of metrics"
Pair = tuple[Comparison, Comparison]


def agreement(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield a statement for every two metrics, those of unlike kinds first."""
    by_metric: dict[str, dict[object, Comparison]] = {}
    for comparison in comparisons.trained or comparisons.controls:
        by_metric.setdefault(comparison.metric, {})[comparison.key] = comparison
    kind = table.model_kind if comparisons.trained else "control model"
    metrics = sorted(combinations(by_metric, 2), key=_is_of_one_kind)
    for names in metrics:
        one, other = (by_metric[name] for name in names)
        pairs = [(one[key], other[key]) for key in one if key in other]
        if pairs:
            yield _statement(table, names, pairs, kind)


def _is_of_one_kind(metrics: tuple[str, str]) -> bool:
    return (metrics[0] in distances()) == (metrics[1] in distances())


def _statement(
    table: StudyTable, metrics: tuple[str, str], pairs: Sequence[Pair], kind: str
) -> Statement:
    titles = [table.title(metric) for metric in metrics]
    same = sum(a.sign * b.sign > 0 for a, b in pairs)
    opposite = [(a, b) for a, b in pairs if a.sign * b.sign < 0]
    only = [sum(a.sign != 0 and b.sign == 0 for a, b in pairs)]
    only += [sum(a.sign == 0 and b.sign != 0 for a, b in pairs)]
    verdict, tone = _verdict(same, len(opposite))
    both, models = f"The {titles[0]} and the {titles[1]}", counted(len(pairs), kind)
    if same or opposite or any(only):
        text = (
            f"{both} {verdict}: of {models} at all weights, both change significantly in the same "
            f"direction in {same} and in opposite directions in {len(opposite)}; only the "
            f"{titles[0]} changes significantly in {only[0]}, only the {titles[1]} in {only[1]}."
        )
    else:
        is_tested = any(c.is_tested for pair in pairs for c in pair)
        verb = "is significant" if is_tested else "was tested"
        text = f"{both}: no change of either {verb} in {models} at all weights."
    if opposite:
        pair = min(opposite, key=lambda p: max(c.adjusted_p for c in p))
        text += f" For example, {_example(table, pair)}."
    correlation = _rank_correlation(pairs)
    if correlation is not None:
        text += f" The rank correlation of their mean changes is {correlation:z.2f}."
    return Statement(AGREEMENT, text.replace("is -", "is \N{MINUS SIGN}"), tone)


def _verdict(same: int, opposite: int) -> tuple[str, Tone]:
    if opposite:
        return ("disagree in part" if same else "disagree"), "caution"
    if same:
        return "agree wherever both change significantly", "neutral"
    return "never change significantly together", "neutral"


def _example(table: StudyTable, pair: Pair) -> str:
    model = pair[0].model
    parts = []
    for comparison in pair:
        verb = "raises" if comparison.sign > 0 else "lowers"
        parts.append(
            f"{verb} the {table.title(comparison.metric)} ({change_text(table, comparison)}, "
            f"{p_text(comparison)})"
        )
    subject = in_sentence(objective(model["objective"]))
    return f"{subject} at {describe(model, table.axes)} {' and '.join(parts)}"


def _rank_correlation(pairs: Sequence[Pair]) -> float | None:
    """Return Spearman's rank correlation of the mean changes; None if it is undefined."""
    means = np.array([[c.estimate.value for c in pair] for pair in pairs])
    means = means[np.isfinite(means).all(1)]
    ranks = pd.DataFrame(means).rank().to_numpy()
    if len(means) < 3 or not (ranks.std(0) > 0).all():  # of two, it is always 1 or -1
        return None
    return float(np.corrcoef(ranks.T)[0, 1])

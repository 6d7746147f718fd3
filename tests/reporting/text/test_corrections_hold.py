"""Statements on corrections and their cost follow from the rows of random studies."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from dgray.reporting.text.finding import find
from tests.reporting.synthetic import table_of
from tests.reporting.text.random_study import (
    CORRECTIONS,
    METRICS,
    NAMES,
    TITLE,
    Case,
    Model,
    random_case,
)

PATTERN = (
    rf"At the weights selected on the validation split, the (?P<title>{TITLE}) is significantly "
    r"below that of the base at some checkpoint for (?P<better>.+), and above it for "
    r"(?P<worse>.+) \(adjusted for all comparisons with the base\)\. Of these, (?P<front>.+) "
    r"(?:is|are) on the Pareto front of the change against training FLOPs\."
)


def selected(case: Case, metric: str) -> Iterator[Model]:
    """Yield the model of each checkpoint that is best on the validation split."""
    models = case.of(metric)
    for checkpoint in {model.checkpoint for model in models}:
        own = [model for model in models if model.checkpoint == checkpoint]
        best = min(own, key=lambda model: model.validation)
        if not np.isnan(best.mean(metric)):
            yield best


def listed(text: str) -> set[str]:
    return set() if text == "none" else set(re.split(", | and ", text))


@pytest.mark.parametrize("seed", range(20))
def test_statements_on_cost_hold_for_the_rows(seed: int) -> None:
    case = random_case(seed, CORRECTIONS)
    statements = find(table_of(case.rows)).statements
    matches = [m for m in (re.fullmatch(PATTERN, s.text) for s in statements) if m]
    for match in matches:
        metric = METRICS[match["title"]]
        models = list(selected(case, metric))
        better, worse = (
            {NAMES[m.objective] for m in models if m.sign(metric) == sign} for sign in (-1, 1)
        )
        front = {
            NAMES[m.objective]
            for m in models
            if m.mean(metric) < 0
            and not any(
                o.mean(metric) < m.mean(metric) and o.flops <= 1.05 * m.flops for o in models
            )
        }
        assert (listed(match["better"]), listed(match["worse"])) == (better, worse)
        assert listed(match["front"]) == front
    compared = [
        metric
        for metric in case.metrics
        if len({m.objective for m in selected(case, metric)}) > 1
        and any(not np.isnan(m.adjusted[metric]) for m in selected(case, metric))
    ]
    assert sorted(METRICS[match["title"]] for match in matches) == sorted(compared)


def test_a_model_that_is_not_guided_is_called_corrected() -> None:
    texts = [s.text for s in find(table_of(random_case(3, CORRECTIONS).rows)).statements]
    assert any(" corrected model" in text for text in texts)
    assert not any(" guided model" in text for text in texts)

"""Differences between models of two runs, paired where seeds are shared.

Replicates of the same number share their random numbers if the studies have the same seed: their
differences are paired, with Student's t test over the pairs. Otherwise the errors of both means
are joined, sqrt(se_1^2 + se_2^2), with the degrees of freedom of Welch (1947, Biometrika 34) and
Satterthwaite. p-values are adjusted after Benjamini and Hochberg over all differences of a
comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from dgray.reporting.aggregate import MODEL_COLUMNS, ModelKey, model_keys
from dgray.reporting.compare.comparable import compared_metrics, pairing
from dgray.reporting.compare.studies import ComparedRun
from dgray.reporting.comparisons import (
    LEVEL,
    Replicates,
    false_discovery_rates,
    is_unreliable,
    p_value,
    replicates_by_model,
    standard_error,
    tested,
)
from dgray.reporting.estimate import Estimate, estimate
from dgray.reporting.presentation import depends_on_sampler, objective
from dgray.reporting.selection import best, describe, objectives, trained
from dgray.reporting.table import StudyTable

Kind = Literal["best models", "same settings"]
_SETTING = MODEL_COLUMNS[1:]  # all but the trial


@dataclass(frozen=True)
class Difference:
    """Difference of one metric between a model of a run and one of the reference run.

    Attributes:
        kind: whether both models have the same setting, or are the best of their run.
        run: label of the run; ``reference``: label of the other one.
        objective: objective of both models.
        setting: setting of the model; ``reference_setting``: that of the other one.
        metric: name of the metric.
        value: level of the model; ``reference_value``: that of the other one; None if unknown.
        estimate: the difference with its standard error.
        is_paired: whether replicates are compared in pairs.
        count: number of pairs; else of the replicates of the run with fewer.
        degrees: degrees of freedom of the t test.
        p: two-sided p-value; nan if the difference cannot be tested.
        adjusted_p: p-value adjusted for all differences of the comparison.
    """

    kind: Kind
    run: str
    reference: str
    objective: str
    setting: str
    reference_setting: str
    metric: str
    value: Estimate | None
    reference_value: Estimate | None
    estimate: Estimate
    is_paired: bool
    count: int
    degrees: float
    p: float
    adjusted_p: float = np.nan

    @property
    def sign(self) -> int:
        """1 for a significantly higher value than the reference, -1 for a lower one, else 0."""
        return int(np.sign(self.estimate.value)) if self.adjusted_p < LEVEL else 0


@dataclass(frozen=True)
class _Statistic:
    """A difference with its test; see ``Difference``."""

    estimate: Estimate
    is_paired: bool
    count: int
    degrees: float
    p: float


class RunPair:
    """Differences of a run to a reference run, with p-values that are not adjusted.

    Attributes:
        differences: of all matched models and metrics.
        impossible: reasons why other comparisons are impossible.
        num_identical: number of values that are the same in both, which are left out.
    """

    def __init__(self, reference: ComparedRun, run: ComparedRun) -> None:
        self._reference, self._run = reference, run
        self._pairing = pairing(reference, run)
        self.impossible: list[str] = []
        self.num_identical = 0
        models = [*self._best_settings(), *self._same_settings()]
        self.differences = [
            difference
            for metric in compared_metrics([reference, run])
            for difference in self._of_metric(metric, models)
        ]

    def _of_metric(
        self, metric: str, models: Sequence[tuple[Kind, pd.Series, pd.Series]]
    ) -> Iterator[Difference]:
        tables = [run.contents.table for run in (self._reference, self._run)]
        refusal, column = self._pairing.refusal(metric), ""
        if not refusal:
            column = self._pairing.column(metric, [_columns(table) for table in tables])
            if not column:
                refusal = (
                    "only its change against the base is known, and the bases or points differ"
                )
        if refusal:
            self._refuse(f"{metric}: {refusal}")
            return
        ours, theirs = (replicates_by_model(table, column) for table in tables)
        for kind, model, other in models:
            one, two = ours.get(_key(model)), theirs.get(_key(other))
            if one is None or two is None or not (_has_values(one) and _has_values(two)):
                continue
            if depends_on_sampler(metric) and one.sampler != two.sampler:
                pair = (one.sampler, two.sampler)
                names = " and ".join(f"{name}, {steps} steps" for name, steps in pair)
                self._refuse(f"{metric}: the samplers differ ({names})")
                continue
            if is_unreliable(model, metric) or is_unreliable(other, metric):
                self._refuse(f"{metric}: models whose integration missed the tolerance")
                continue
            is_trained = objective(other["objective"]).is_trained
            are_alike = is_trained or self._pairing.has_same_points(metric)
            is_paired = self._pairing.has_same_seeds and are_alike
            statistic = _paired(other, metric, two, one) if is_paired else None
            statistic = statistic or _joint(two, one, is_trained=is_trained)
            is_identical = statistic.estimate == Estimate(0.0, 0.0) or (
                is_paired and _are_identical(one, two)
            )
            if is_identical and kind == "same settings":
                self.num_identical += 1
                continue
            yield self._difference(kind, metric, model, other, statistic)

    def _difference(
        self, kind: Kind, metric: str, model: pd.Series, other: pd.Series, statistic: _Statistic
    ) -> Difference:
        return Difference(
            kind=kind,
            run=self._run.label,
            reference=self._reference.label,
            objective=str(other["objective"]),
            setting=describe(other, self._run.contents.table.axes),
            reference_setting=describe(model, self._reference.contents.table.axes),
            metric=metric,
            value=estimate(other, metric),
            reference_value=estimate(model, metric),
            **vars(statistic),
        )

    def _refuse(self, reason: str) -> None:
        text = f"{self._run.label} and {self._reference.label}: {reason}"
        if text not in self.impossible:
            self.impossible.append(text)

    def _best_settings(self) -> Iterator[tuple[Kind, pd.Series, pd.Series]]:
        tables = [run.contents.shown for run in (self._reference, self._run)]
        if any(trained(table.models)["base_trial"].nunique() > 1 for table in tables):
            self._refuse(
                "best models: a run has several bases or data sets; the same settings are compared"
            )
            return
        names = [objectives(table.models) for table in tables]
        for run, own, others in zip((self._reference, self._run), names, names[::-1], strict=True):
            alone = [objective(name).title for name in own if name not in others]
            if alone:
                self._refuse(f"best settings: {run.label} alone has {', '.join(alone)}")
        for name in names[0]:
            pair = [best(table, name) for table in tables]
            if pair[0] is not None and pair[1] is not None:
                yield "best models", pair[0], pair[1]

    def _same_settings(self) -> Iterator[tuple[Kind, pd.Series, pd.Series]]:
        axes = dict.fromkeys([*self._reference.axes, *self._run.axes])
        shared = [axis for axis in axes if axis not in self._pairing.different]
        ours = _by_setting(self._reference, self._run, shared)
        theirs = _by_setting(self._run, self._reference, shared)
        matched = [key for key in ours if key in theirs]
        for key in matched:
            if len(ours[key]) == len(theirs[key]) == 1:
                yield "same settings", ours[key][0], theirs[key][0]
        if any(len(ours[key]) > 1 or len(theirs[key]) > 1 for key in matched):
            several = [axis for axis in axes if axis in self._pairing.different]
            self._refuse(
                f"settings that differ only in {', '.join(several)} are not matched one to one, "
                "because a run has several of its values and no value is in both"
            )
        if not matched:
            self._refuse("same settings: no model of one has the setting of one of the other")


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Adjust the p-values of all differences together; those that are nan stay nan."""
    p = false_discovery_rates(np.array([difference.p for difference in differences]))
    return [
        replace(difference, adjusted_p=float(value))
        for difference, value in zip(differences, p, strict=True)
    ]


def _has_values(replicates: Replicates) -> bool:
    return not np.isnan([*replicates.values.values()]).all()


def _are_identical(one: Replicates, other: Replicates) -> bool:
    """Return whether all values are the same, infinite ones included, whose difference is nan."""
    numbers = sorted(one.values)
    return numbers == sorted(other.values) and np.array_equal(
        [one.values[r] for r in numbers], [other.values[r] for r in numbers], equal_nan=True
    )


def _columns(table: StudyTable) -> set[str]:
    """Return the columns of a table that have values."""
    rows = table.rows[table.rows["status"] == "ok"]
    return {name for name in rows if rows[name].notna().any()}


def _key(model: pd.Series) -> ModelKey:
    (key,) = model_keys(model.to_frame().T)
    return key


def _by_setting(
    run: ComparedRun, other: ComparedRun, axes: Sequence[str]
) -> dict[tuple[Any, ...], list[pd.Series]]:
    """Return the models of a run by their objective, values of axes, and evaluation setting."""
    of_other = other.contents.table.rows
    models = run.contents.table.models
    columns: dict[str, list[Any]] = {}
    for axis in axes:
        if axis in run.axes:
            columns[axis] = [_plain(value) for value in models[axis]]
            continue
        (value,) = map(_plain, run.values(axis))
        relevant = set(of_other.loc[of_other[axis].notna(), "objective"])  # an axis there
        columns[axis] = [value if name in relevant else None for name in models["objective"]]
    keys = zip(models["objective"], *columns.values(), *(models[n] for n in _SETTING), strict=True)
    groups: dict[tuple[Any, ...], list[pd.Series]] = {}
    for key, (_, model) in zip(keys, models.iterrows(), strict=True):
        groups.setdefault(tuple(map(_plain, key)), []).append(model)
    return groups


def _plain(value: Any) -> Any:
    """Return a value whose equals compare equal: missing values as None, numbers as floats."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number else value


def _paired(
    model: pd.Series, metric: str, values: Replicates, reference: Replicates
) -> _Statistic | None:
    """Test the differences of replicates with the same number; None if there are none."""
    changes = values.minus(reference)
    if not changes.values:
        return None
    result = tested(model, metric, None, changes)
    p = np.nan if result.estimate == Estimate(0.0, 0.0) else result.p
    return _Statistic(result.estimate, True, len(changes.values), result.degrees, p)


def _joint(values: Replicates, reference: Replicates, *, is_trained: bool) -> _Statistic:
    """Test the difference of two means that share no random numbers."""
    means, squares, dofs = [], [], []
    for replicates in (values, reference):
        numbers, errors = (
            np.array([*part.values()]) for part in (replicates.values, replicates.errors)
        )
        means.append(float(numbers.mean()))
        squares.append(standard_error(numbers, errors) ** 2)
        dofs.append(len(numbers) - 1 if is_trained else np.inf)
    result = Estimate(means[0] - means[1], float(np.sqrt(sum(squares))))
    terms = [s**2 / d if d else np.inf for s, d in zip(squares, dofs, strict=True)]
    degrees = sum(squares) ** 2 / sum(terms) if sum(terms) > 0 else np.inf
    count = min(len(values.values), len(reference.values))
    return _Statistic(result, False, count, float(degrees), p_value(result, float(degrees)))

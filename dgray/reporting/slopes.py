"""Error of corrected models against the number of real samples, and log-log slopes.

The error is a KL divergence to the data, which must have a known density. A series is one
objective with one value of every axis other than ``data.num_real``, at its last checkpoint and one
weight. Its slope is fitted to the logarithms of the means over replicates by weighted least
squares; the weights are the inverse squares of their relative standard errors. An error that is
not above zero by two standard errors has no logarithm and is left out.

The values of a replicate at different numbers of samples are dependent: they share their initial
weights and, in part, their random numbers. The standard error of a slope is therefore that of the
jackknife over replicates (Efron and Tibshirani 1993, chapter 11), which leaves a replicate out at
all numbers of samples and computes means, weights and slope again. Held-out points are shared by
all replicates; their errors are added as if they were independent between numbers of samples,
which overstates the error of a slope if they rise and fall together. Tests are Student's t with
R - 1 degrees of freedom for R replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dgray.reporting.aggregate import ModelKey, model_keys, setting_keys
from dgray.reporting.comparisons import (
    LEVEL,
    Replicates,
    false_discovery_rates,
    is_unreliable,
    p_value,
    replicates_by_model,
)
from dgray.reporting.estimate import Estimate
from dgray.reporting.presentation import divergences
from dgray.reporting.selection import (
    NUM_REAL,
    OBJECTIVE,
    at_weight,
    last_epoch,
    main_weight,
    plain,
    trained,
)
from dgray.reporting.table import StudyTable, per_table

MIN_SIZES = 3  # numbers of samples of a study, and logarithms of a slope
_MIN_REPLICATES = 3  # of which one can be left out
_ABOVE = 2.0  # standard errors by which an error must be above zero
_EQUAL = 1e-12  # relative variance below which weights are equal


@dataclass(frozen=True)
class Trend:
    """Coefficient of a series: the slope, or half the change of the slope per unit of ln n.

    Attributes:
        estimate: its value with its standard error.
        own: the part of the error that comes from held-out points.
        without: its value without each replicate, shape (R,).
        p: two-sided p-value of the value 0.
        adjusted_p: p-value adjusted for all series and metrics.
    """

    estimate: Estimate
    own: float
    without: np.ndarray
    p: float
    adjusted_p: float = np.nan

    @property
    def sign(self) -> int:
        """1 if it is significantly above 0, -1 if below, else 0."""
        return int(np.sign(self.estimate.value)) if self.adjusted_p < LEVEL else 0

    def minus(self, other: Trend) -> Trend:
        """Return the difference of the trends of two series with the same replicates."""
        value = self.estimate.value - other.estimate.value
        return _trend(value, float(np.hypot(self.own, other.own)), self.without - other.without)


@dataclass(frozen=True)
class SampleSeries:
    """Error of one configuration of an objective against the number of real samples.

    Attributes:
        metric: name of the divergence.
        weight: constant weight; None: calibrated.
        configuration: value of each axis that applies to it, by dotted path.
        models: its rows of ``StudyTable.models``, in the order of the number of samples.
        errors: mean over replicates for each row, with its standard error.
        is_used: whether its logarithm is taken, for each row.
        slope: slope of the logarithm of the error on that of the number of samples; None if there
            are fewer than three of either, or fewer than three replicates.
        bend: coefficient of a parabola; None if there are fewer than four logarithms.
        replicates: replicates of the slope.
    """

    metric: str
    weight: float | None
    configuration: Mapping[str, object]
    models: pd.DataFrame
    errors: tuple[Estimate, ...]
    is_used: np.ndarray
    slope: Trend | None
    bend: Trend | None
    replicates: tuple[int, ...]

    @property
    def objective(self) -> str:
        """Objective, or correction with its objective."""
        return str(self.models["objective"].iloc[0])

    @property
    def group(self) -> tuple[str, float | None]:
        """Metric and weight."""
        return self.metric, self.weight

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of real samples."""
        return np.array(self.models[NUM_REAL], float)


@per_table
def sample_series(table: StudyTable) -> list[SampleSeries]:
    """Return all series of a study; none if it has fewer than three numbers of samples."""
    models = last_epoch(plain(trained(table.models)))
    if NUM_REAL not in table.axes or models[NUM_REAL].nunique() < MIN_SIZES:
        return []
    groups = {weight: at_weight(models, weight) for weight in (main_weight(models), None)}
    series: list[SampleSeries] = []
    for metric in divergences():
        if metric in table.columns and models[metric].notna().any():
            values = replicates_by_model(table, metric)
            for weight, group in groups.items():
                series += _of_group(table, metric, weight, group, values)
    return _adjusted(series)


def changed_fields(one: SampleSeries, first: SampleSeries) -> dict[str, object]:
    """Return the fields of a series with another value than in the first one."""
    values, others = one.configuration.items(), first.configuration
    return {axis: v for axis, v in values if axis not in others or others[axis] != v}


def difference(one: SampleSeries, other: SampleSeries) -> Trend | None:
    """Return the difference of two slopes, paired over replicates; None without a common set."""
    if one.slope is None or other.slope is None or one.replicates != other.replicates:
        return None
    return one.slope.minus(other.slope)


def _of_group(
    table: StudyTable,
    metric: str,
    weight: float | None,
    models: pd.DataFrame,
    values: Mapping[ModelKey, Replicates],
) -> Iterator[SampleSeries]:
    axes = [axis for axis in table.axes if axis not in (NUM_REAL, OBJECTIVE)]
    keys = setting_keys(models, ["objective", *axes])
    for key in dict.fromkeys(keys):
        configuration = {a: v for a, v in zip(axes, key[1:], strict=True) if v is not None}
        own = models[[other == key for other in keys]].sort_values(NUM_REAL)
        own = own[[key in values for key in model_keys(own)]]
        if own[NUM_REAL].nunique() >= MIN_SIZES:
            own = own.drop_duplicates(NUM_REAL)
            of_models = [values[key] for key in model_keys(own)]
            yield _one_series(metric, weight, configuration, own, of_models)


def _one_series(
    metric: str,
    weight: float | None,
    configuration: Mapping[str, object],
    models: pd.DataFrame,
    of_models: Sequence[Replicates],
) -> SampleSeries:
    errors = [replicates.mean for replicates in of_models]
    is_reliable = [not is_unreliable(model, metric) for _, model in models.iterrows()]
    is_used = np.array([_has_logarithm(error) for error in errors]) & is_reliable
    used = [r for r, is_one in zip(of_models, is_used, strict=True) if is_one]
    common = tuple(sorted(set.intersection(*(set(r.values) for r in used)))) if used else ()
    slope = bend = None
    if len(used) >= MIN_SIZES and len(common) >= _MIN_REPLICATES:
        logarithms = np.log(models[NUM_REAL].to_numpy(float)[is_used])
        table = np.array([[r.values[name] for r in used] for name in common])
        own = np.array([_own_error(r, common) for r in used])
        slope = fitted_trend(logarithms, table, own, 1)
        bend = fitted_trend(logarithms, table, own, 2) if len(used) > MIN_SIZES else None
    return SampleSeries(
        metric=metric,
        weight=weight,
        configuration=configuration,
        models=models,
        errors=tuple(errors),
        is_used=is_used,
        slope=slope,
        bend=bend,
        replicates=common,
    )


def _has_logarithm(error: Estimate) -> bool:
    spread = 0.0 if np.isnan(error.error) else error.error
    return bool(np.isfinite(error.value) and error.value > _ABOVE * spread)


def _own_error(replicates: Replicates, names: Sequence[int]) -> float:
    errors = np.nan_to_num([replicates.errors[name] for name in names])
    return float(np.sqrt(np.mean(np.square(errors))))


def fitted_trend(x: np.ndarray, values: np.ndarray, own: np.ndarray, degree: int) -> Trend:
    """Return the leading coefficient of a polynomial, with the jackknife over replicates.

    Args:
        x: logarithms of the numbers of samples, shape (k,).
        values: errors, shape (R, k).
        own: standard errors over held-out points, shape (k,).
        degree: degree of the polynomial.
    """
    value, own_error = leading_coefficient(x, values, own, degree)
    without = [
        leading_coefficient(x, np.delete(values, index, 0), own, degree)[0]
        for index in range(len(values))
    ]
    return _trend(value, own_error, np.array(without))


def leading_coefficient(
    x: np.ndarray, values: np.ndarray, own: np.ndarray, degree: int
) -> tuple[float, float]:
    """Return the leading coefficient of log mean errors in x, and its error over points."""
    mean = values.mean(0)
    variance = (values.var(0, ddof=1) / len(values) + own**2) / mean**2
    weights = 1 / np.maximum(variance, _EQUAL)
    design = np.vander(x - np.average(x, weights=weights), degree + 1) * np.sqrt(weights)[:, None]
    leverage = np.linalg.pinv(design)[0] * np.sqrt(weights)
    return float(leverage @ np.log(mean)), float(np.linalg.norm(leverage * own / mean))


def _trend(value: float, own: float, without: np.ndarray) -> Trend:
    count = len(without)
    spread = (count - 1) * float(np.mean(np.square(without - without.mean())))
    estimate = Estimate(value, float(np.sqrt(spread + own**2)))
    return Trend(estimate, own, without, p_value(estimate, count - 1))


def _adjusted(series: list[SampleSeries]) -> list[SampleSeries]:
    """Adjust the p-values of all slopes together, and those of all bends."""
    slopes = adjust([one.slope for one in series])
    bends = adjust([one.bend for one in series])
    return [
        replace(one, slope=slope, bend=bend)
        for one, slope, bend in zip(series, slopes, bends, strict=True)
    ]


def adjust(trends: Sequence[Trend | None]) -> list[Trend | None]:
    """Adjust p-values after Benjamini and Hochberg; None and nan stay."""
    p = false_discovery_rates(np.array([np.nan if t is None else t.p for t in trends]))
    return [
        None if trend is None else replace(trend, adjusted_p=float(value))
        for trend, value in zip(trends, p, strict=True)
    ]

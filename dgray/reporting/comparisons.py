"""Comparisons of models on the same held-out data: differences, t tests, and their adjustment.

A guided model is compared with the unguided base, and the best models of two objectives with
each other. All models are evaluated on the same points and noise, so differences are paired: over
replicates, and within a replicate over points where the rows hold the errors of differences.

The test of a trained model is Student's t with R - 1 degrees of freedom for R replicates, since
the training run is the unit that is repeated. The error over points is added to the spread between
replicates, which makes the test conservative. One replicate allows no test. Controls are not
trained; their tests use the error over points. p-values are adjusted for the number of tests after
Benjamini and Hochberg (1995, J. R. Stat. Soc. B 57(1)), in three families: trained models with the
base, best models with each other, and controls with the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np
import pandas as pd
from scipy.special import stdtr

from dgray.reporting.aggregate import MODEL_COLUMNS, ModelKey, model_key, model_keys
from dgray.reporting.estimate import Estimate
from dgray.reporting.presentation import (
    BASE,
    distances,
    divergences,
    objective,
    sampler_preference,
)
from dgray.reporting.selection import best, objectives
from dgray.reporting.table import StudyTable, per_table

LEVEL = 0.05  # false discovery rate: expected share of false ones among significant differences
_GROUPS = 10  # groups of samples of a jackknife; sampling seeds, if there are several, are others
_OUTLYING = 10.0  # robust standard deviations above the median from which a replicate diverged
_EXCESS = 1.0  # nats above the median that it exceeds too, so that small changes are none
_NONE = np.array([])
_MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


@dataclass(frozen=True)
class Replicates:
    """Values of one metric of one model.

    Attributes:
        values: value of each replicate by its number; nan if it is missing.
        errors: standard error of each over points or samples; nan if it is unknown.
        parts: parts of that error by groups of samples; empty if they are unknown.
        sampler: sampler and steps of the rows.
        degrees: degrees of freedom of the errors; infinite for errors over many points.
    """

    values: Mapping[int, float]
    errors: Mapping[int, float]
    parts: Mapping[int, np.ndarray]
    sampler: tuple[str, int]
    degrees: float = np.inf

    @property
    def mean(self) -> Estimate:
        """Mean over replicates with its standard error."""
        values = np.array([*self.values.values()])
        errors = np.array([*self.errors.values()])
        return Estimate(float(values.mean()), standard_error(values, errors))

    def minus(self, other: Replicates) -> Replicates:
        """Return paired differences; a single replicate of ``other`` is paired with all."""
        alone = next(iter(other.values)) if len(other.values) == 1 else None
        pairs = {r: r if alone is None else alone for r in self.values}
        pairs = {r: s for r, s in pairs.items() if s in other.values}
        return Replicates(
            {r: self.values[r] - other.values[s] for r, s in pairs.items()},
            {r: self._paired_error(r, other, s) for r, s in pairs.items()},
            {},
            self.sampler,
            min(len(parts) or _GROUPS for parts in self._parts_of(other, pairs)) - 1,
        )

    def _parts_of(self, other: Replicates, pairs: Mapping[int, int]) -> Iterator[np.ndarray]:
        yield np.zeros(_GROUPS)
        for r, s in pairs.items():
            yield from (self.parts.get(r, _NONE), other.parts.get(s, _NONE))

    def _paired_error(self, own: int, other: Replicates, its: int) -> float:
        """Return the error over samples of the difference of two replicates."""
        one, two = self.parts.get(own, _NONE), other.parts.get(its, _NONE)
        if not len(one) or not len(two):  # of a run without parts: an upper bound
            return float(np.hypot(self.errors[own], other.errors[its]))
        longer = max(len(one), len(two))  # a calibrated weight adds parts of its own
        padded = [np.pad(parts, (0, longer - len(parts))) for parts in (one, two)]
        return float(np.linalg.norm(padded[0] - padded[1]))


@dataclass(frozen=True)
class Comparison:
    """Difference of one metric between a guided model and a reference.

    Attributes:
        model: the guided model, a row of ``StudyTable.models``.
        metric: name of the metric.
        reference: the other model; None: the unguided base.
        replicates: difference of each replicate; nan if it is missing.
        estimate: their mean with its standard error.
        degrees: degrees of freedom of the t test; infinite for a control.
        p: two-sided p-value; nan if the difference cannot be tested.
        adjusted_p: p-value adjusted for the comparisons of its family.
    """

    model: pd.Series
    metric: str
    reference: pd.Series | None
    replicates: tuple[float, ...]
    estimate: Estimate
    degrees: float
    num_diverged: int
    p: float
    adjusted_p: float = np.nan

    @cached_property
    def key(self) -> ModelKey:
        """Key of the guided model."""
        return model_key(self.model)

    @property
    def is_tested(self) -> bool:
        """True if the difference has a p-value."""
        return not np.isnan(self.p)

    @property
    def sign(self) -> int:
        """1 for a significant rise, -1 for a significant fall, else 0."""
        is_significant = self.adjusted_p < LEVEL
        return int(np.sign(self.estimate.value)) if is_significant else 0

    @property
    def finite(self) -> np.ndarray:
        """Finite differences of replicates, in ascending order."""
        values = np.array(self.replicates)
        return np.sort(values[np.isfinite(values)])


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a study.

    Attributes:
        trained: trained guided models with the base.
        between: best models of the objectives with each other.
        controls: controls with the base.
        num_unreliable: models whose ``kl`` is left out, as its integration missed the tolerance.
    """

    trained: tuple[Comparison, ...]
    between: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]
    num_unreliable: int

    @property
    def with_base(self) -> tuple[Comparison, ...]:
        """Comparisons of trained models and of controls with the base."""
        return (*self.controls, *self.trained)


def compare(table: StudyTable) -> Comparisons:
    """Return all comparisons of a study with adjusted p-values."""
    values = {
        metric: replicates_by_model(table, _column(metric)) for metric in compared_metrics(table)
    }
    with_base, num_unreliable = _with_base(table, values)
    trained = [c for c in with_base if objective(c.model["objective"]).is_trained]
    controls = [c for c in with_base if not objective(c.model["objective"]).is_trained]
    return Comparisons(
        trained=adjusted(trained),
        between=adjusted(list(_between(table, values))),
        controls=adjusted(controls),
        num_unreliable=num_unreliable,
    )


def compared_metrics(table: StudyTable) -> list[str]:
    """Return the KL divergences, and the first distance of features, that the rows have."""
    ok = table.rows[table.rows["status"] == "ok"]
    present = [name for name in (*divergences(), *distances()) if ok[_column(name)].notna().any()]
    dropped = [name for name in present if name in distances()][1:]
    return [name for name in present if name not in dropped]


def is_unreliable(model: pd.Series, metric: str) -> bool:
    """Return whether a metric of a model is unreliable, such as ``kl`` with a missed tolerance."""
    column = divergences()[metric].unreliable_column if metric in divergences() else ""
    return bool(column and model[column] > 0)


def num_diverged(values: np.ndarray, errors: np.ndarray) -> int:
    """Return how many replicates diverged, given their changes against the base.

    A replicate diverged if its change is missing or not finite; or if it is positive and exceeds
    the median of three or more replicates by 1 nat and by ten robust standard deviations, that is
    the median absolute deviation times 1.4826, or the median error over points if that is larger.
    """
    is_finite = np.isfinite(values)
    lost = int((~is_finite).sum())
    changes, own = values[is_finite], errors[is_finite]
    if len(changes) < 3:  # too few for a majority
        return lost
    centre = median(changes)  # of few numbers, in a tenth of the time of NumPy's
    spread = _MAD * median(np.abs(changes - centre))
    if np.isfinite(own).any():
        spread = max(spread, median(own[~np.isnan(own)]))
    limit = max(_OUTLYING * spread, _EXCESS)
    return lost + int(((changes > 0) & (changes - centre > limit)).sum())


def _column(metric: str) -> str:
    return f"{metric}_change" if metric in divergences() else metric


def _of(model: pd.Series, by_model: Mapping[ModelKey, Replicates]) -> Replicates | None:
    return by_model.get(model_key(model))


def replicates_by_model(table: StudyTable, column: str) -> dict[ModelKey, Replicates]:
    """Return the values of a column by model.

    Where rows of several samplers have it, those of the first by ``sampler_preference`` with most
    steps are read, also where they are missing.
    """
    rows = table.rows
    numbers = rows["replicate"].to_numpy()
    values = rows[column].to_numpy(float)
    missing = pd.Series(np.nan, rows.index)
    errors = rows.get(f"{column}_se", missing).to_numpy(float)
    parts = rows.get(f"{column}_parts", missing).to_numpy(object)
    by_sampler = _rows_by_sampler(table)
    owners = [
        owner
        for owner, models in by_sampler.items()
        if not all(np.isnan(values[lines]).all() for lines in models.values())
    ]
    replicates: dict[ModelKey, Replicates] = {}
    for owner in sorted(owners, key=lambda owner: (*sampler_preference(owner[0]), -owner[1])):
        for key, lines in by_sampler[owner].items():
            if key not in replicates:
                own = numbers[lines].tolist()
                replicates[key] = Replicates(
                    values=dict(zip(own, values[lines].tolist(), strict=True)),
                    errors=dict(zip(own, errors[lines].tolist(), strict=True)),
                    parts={
                        r: p
                        for r, p in zip(own, parts[lines], strict=True)
                        if isinstance(p, np.ndarray)
                    },
                    sampler=owner,
                )
    return replicates


@per_table
def _rows_by_sampler(table: StudyTable) -> dict[tuple[str, int], dict[ModelKey, list[int]]]:
    """Return the places of the complete rows of every model, by sampler and number of steps."""
    rows = table.rows[["sampler", "num_steps", *MODEL_COLUMNS]]
    complete = np.flatnonzero(table.rows["status"] == "ok")
    rows = rows.iloc[complete]
    places: dict[tuple[str, int], dict[ModelKey, list[int]]] = {}
    for place, sampler, steps, key in zip(
        complete.tolist(), rows["sampler"], rows["num_steps"], model_keys(rows), strict=True
    ):
        places.setdefault((sampler, steps), {}).setdefault(key, []).append(place)
    return places


def _with_base(
    table: StudyTable, values: Mapping[str, Mapping[ModelKey, Replicates]]
) -> tuple[list[Comparison], int]:
    """Return the comparisons with the base, and the number of models with an unreliable KL."""
    models = table.models
    bases = {row["trial"]: row for _, row in models[models["objective"] == BASE.name].iterrows()}
    comparisons, num_unreliable = [], 0
    guided = models[models["objective"] != BASE.name]
    for key, (_, model) in zip(model_keys(guided), guided.iterrows(), strict=True):
        for metric, by_model in values.items():
            changes = by_model.get(key)
            if metric in distances():
                base = bases.get(model["base_trial"])
                level = None if base is None else _of(base, by_model)
                # Distances of different samplers are on different samples.
                if changes is None or level is None or changes.sampler != level.sampler:
                    continue
                changes = changes.minus(level)
            if changes is None:
                continue
            if is_unreliable(model, metric):
                num_unreliable += 1
                continue
            comparisons.append(tested(model, metric, None, changes))
    return comparisons, num_unreliable


def _between(
    table: StudyTable, values: Mapping[str, Mapping[ModelKey, Replicates]]
) -> Iterator[Comparison]:
    """Compare the best model of every objective with that of the first, on the same base."""
    names = objectives(table.models)
    for base in table.models["base_trial"].dropna().unique():
        chosen = [best(table, name, base) for name in names]
        settings = [setting for setting in chosen if setting is not None]
        for model in settings[1:]:
            yield from _between_two(model, settings[0], values)


def _between_two(
    model: pd.Series, reference: pd.Series, values: Mapping[str, Mapping[ModelKey, Replicates]]
) -> Iterator[Comparison]:
    for metric, by_model in values.items():
        one, other = _of(model, by_model), _of(reference, by_model)
        if one is None or other is None or one.sampler != other.sampler:
            continue
        if not any(is_unreliable(m, metric) for m in (model, reference)):
            yield tested(model, metric, reference, one.minus(other))


def tested(
    model: pd.Series, metric: str, reference: pd.Series | None, changes: Replicates
) -> Comparison:
    """Return a comparison with its t test, given the difference of each replicate."""
    values = np.array([*changes.values.values()])
    errors = np.array([*changes.errors.values()])
    estimate = changes.mean
    is_trained = objective(model["objective"]).is_trained
    degrees = min(len(values) - 1 if is_trained else np.inf, changes.degrees)
    return Comparison(
        model=model,
        metric=metric,
        reference=reference,
        replicates=tuple(values),
        estimate=estimate,
        degrees=degrees,
        num_diverged=(
            num_diverged(values, errors)
            if metric in divergences()
            else int((~np.isfinite(values)).sum())
        ),
        p=p_value(estimate, degrees),
    )


def standard_error(values: np.ndarray, errors: np.ndarray) -> float:
    """Return the standard error of the mean over replicates; see ``aggregate``."""
    own = np.square(errors[~np.isnan(errors)])
    terms = [own.mean()] if len(own) else []
    if len(values) > 1 and np.isfinite(values).all():
        terms.append(values.var(ddof=1) / len(values))
    return float(np.sqrt(sum(terms))) if terms and np.isfinite(values).all() else np.nan


def p_value(estimate: Estimate, degrees: float) -> float:
    """Return the two-sided p-value of a difference of 0; nan without degrees of freedom."""
    if degrees < 1 or not np.isfinite([estimate.value, estimate.error]).all():
        return np.nan
    if estimate.error == 0:
        return float(estimate.value == 0)
    return float(2 * stdtr(degrees, -abs(estimate.value) / estimate.error))


def false_discovery_rates(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted after Benjamini and Hochberg, shape (n,); those that are nan stay.

    As ``scipy.stats.false_discovery_control``, whose import takes half a second.
    """
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # nan is last
    scaled = p[order] * (len(order) / np.arange(1, len(order) + 1))
    adjusted_p = np.full(len(p), np.nan)
    adjusted_p[order] = np.clip(np.minimum.accumulate(scaled[::-1])[::-1], 0, 1)
    return adjusted_p


def adjusted(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust all p-values together; those that are nan stay nan."""
    p = false_discovery_rates(np.array([comparison.p for comparison in comparisons]))
    return tuple(
        replace(comparison, adjusted_p=float(value))
        for comparison, value in zip(comparisons, p, strict=True)
    )

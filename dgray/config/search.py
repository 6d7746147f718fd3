"""``search``: how trials are chosen, and what a search optimises."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dgray.catalogue import METRICS, ColumnSpec, Kind, MetricSpec
from dgray.config.model import (
    MAX_COUNT,
    FiniteFloat,
    Model,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
)

Direction = Literal["minimize", "maximize"]
SamplerKind = Literal["tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc", "random", "brute_force"]
# Columns that a search can optimise, each with the column of the validation split that it reads:
# those of metrics that are always computed come first.
SEARCHABLE: Mapping[str, ColumnSpec] = {
    column.name: column
    for metric in sorted(METRICS, key=lambda metric: not metric.is_always_computed)
    for column in metric.columns
    if column.validation is not None
}
COSTS = ("fit_seconds", "num_parameters")  # the same on every split


def measured_by(name: str, kind: Kind | None = None) -> MetricSpec:
    """Return the metric that has the column ``name``, of the metrics of this kind of data."""
    return next(
        metric
        for metric in METRICS
        if any(column.name == name for column in metric.columns)
        and (kind is None or kind in metric.kinds)
    )


def validation_column(name: str) -> str | None:
    """Return the column of the validation split that a search reads; None for costs."""
    return None if name in COSTS else SEARCHABLE[name].validation


# Arguments of the samplers of Optuna; ``seed`` is a field of its own.
ARGUMENTS: Mapping[str, Mapping[str, type]] = {
    "tpe": {
        "n_startup_trials": int,
        "n_ei_candidates": int,
        "prior_weight": float,
        "multivariate": bool,
        "group": bool,
        "constant_liar": bool,
    },
    "gp": {"n_startup_trials": int, "deterministic_objective": bool},
    "cmaes": {
        "n_startup_trials": int,
        "sigma0": float,
        "popsize": int,
        "use_separable_cma": bool,
        "with_margin": bool,
        "lr_adapt": bool,
        "consider_pruned_trials": bool,
    },
    "nsga2": {
        "population_size": int,
        "mutation_prob": float,
        "crossover_prob": float,
        "swapping_prob": float,
    },
    "nsga3": {
        "population_size": int,
        "mutation_prob": float,
        "crossover_prob": float,
        "swapping_prob": float,
        "dividing_parameter": int,
    },
    "qmc": {"qmc_type": str, "scramble": bool},
    "random": {},
    "brute_force": {"avoid_premature_stop": bool},
}
RANGES: Mapping[str, tuple[float, float]] = {  # of numbers; others: any that is not negative
    "n_ei_candidates": (1, MAX_COUNT),
    "popsize": (2, MAX_COUNT),
    "population_size": (2, MAX_COUNT),
    "mutation_prob": (0, 1),
    "crossover_prob": (0, 1),
    "swapping_prob": (0, 1),
    "dividing_parameter": (1, MAX_COUNT),
}
QMC_TYPES = ("sobol", "halton")


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _by_method(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


def _check_name(field: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{field} must be of: {', '.join(names) or 'none'}, but got {name!r}{hint}"
        )


class SearchSampler(Model):
    """Optuna's sampler, which suggests search points: by name, or with its arguments and seed."""

    name: SamplerKind = Field("tpe", description="Optuna's sampler")
    seed: Seed | None = Field(None, description="null: the seed of the study")
    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="arguments of Optuna's sampler, as Optuna names them"
    )

    @model_validator(mode="after")
    def _known_arguments(self) -> Self:
        types = ARGUMENTS[self.name]
        for name, value in self.arguments.items():
            _check_name(f"arguments of {self.name}", name, types)
            is_number = types[name] is float and type(value) is int
            if type(value) is not types[name] and not is_number:
                type_name = types[name].__name__
                raise ValueError(f"arguments: {name} must be {type_name}, but got {value!r}")
            low, high = RANGES.get(name, (0, MAX_COUNT))
            if isinstance(value, int | float) and not low <= value <= high:
                raise ValueError(
                    f"arguments: {name} must be in [{low:g}, {high:g}], but got {value!r}"
                )
            if name == "qmc_type" and value not in QMC_TYPES:
                raise ValueError(
                    f"arguments: {name} must be one of {', '.join(QMC_TYPES)}, but got {value!r}"
                )
        return self


class EarlyStopping(Model):
    """Stopping of trials between checkpoints, by the metric on the validation split."""

    method: Literal["asha", "median", "hyperband"] = Field(
        "median",
        description="asha: successive halving (Li et al. 2020); median: stop trials worse than "
        "the median of earlier ones; hyperband: several brackets of halving",
    )
    reduction_factor: Annotated[int, Field(ge=2)] = Field(
        3, description="asha, hyperband: one in this many trials continues"
    )
    num_startup_trials: NonNegativeInt = Field(
        5, description="median: trials that finish before any is stopped"
    )


class GridSearch(Model):
    """Grid of all combinations of the lists."""

    method: Literal["grid"] = Field(description="no search: every combination runs")

    @property
    def validated(self) -> tuple[str, ...]:
        """Columns that are read on the validation split besides those always computed: none."""
        return ()

    @property
    def needs_flow(self) -> bool:
        """True if it reads a metric of the probability-flow ODE."""
        return False


class OptunaSearch(Model):
    """Search over the fields that are domains, one for each combination of the lists."""

    method: Literal["optuna"] = Field(description="search the fields that are domains")
    metrics: dict[str, Direction] = Field(
        {"path_kl_change": "minimize"},
        description="metrics to optimise, on the validation split; several: a Pareto front. "
        f"Allowed: {', '.join((*SEARCHABLE, *COSTS))}",
    )
    constraints: dict[str, FiniteFloat] = Field(
        {}, description="metrics that must be <= a value, on the validation split"
    )
    sampler: Annotated[SearchSampler, BeforeValidator(_named)] = SearchSampler()
    num_trials: PositiveInt | None = Field(
        None, description="search points of each search; null: as many as time_budget allows"
    )
    time_budget: PositiveFloat | None = Field(
        None, description="seconds after which no new search point is started; null: no limit"
    )
    rounds: PositiveInt | None = Field(
        None,
        description="search points per round; a round starts when the one before has finished, so "
        "that the search points do not depend on timing; null: a search point starts whenever a "
        "worker is free",
    )
    early_stopping: Annotated[EarlyStopping | None, BeforeValidator(_by_method)] = Field(
        None, description="null: every trial is trained to its last checkpoint"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for section in ("metrics", "constraints"):
            for name in getattr(self, section):
                _check_name(section, name, (*SEARCHABLE, *COSTS))
        if not self.metrics:
            raise ValueError("metrics must name something to optimise, but got {}")
        if self.num_trials is None and self.time_budget is None:
            raise ValueError("num_trials or time_budget must be given, or both, but got neither")
        several = len(self.metrics) > 1
        if several and self.sampler.name == "cmaes":
            raise ValueError(
                f"sampler cmaes optimises one metric, but metrics are {list(self.metrics)}; use "
                "tpe, gp, nsga2, nsga3, qmc or random"
            )
        if several and self.early_stopping is not None:
            raise ValueError(
                "early_stopping compares trials by one metric, but metrics are "
                f"{list(self.metrics)}; leave one or the other out"
            )
        if self.early_stopping is not None and next(iter(self.metrics)) in COSTS:
            raise ValueError(
                "early_stopping must compare by a metric of quality, but metrics are "
                f"{list(self.metrics)}"
            )
        return self

    @property
    def validated(self) -> tuple[str, ...]:
        """Columns that are read on the validation split besides those always computed."""
        names = dict.fromkeys([*self.metrics, *self.constraints])
        return tuple(
            name
            for name in names
            if name not in COSTS and not measured_by(name).is_always_computed
        )

    @property
    def needs_flow(self) -> bool:
        """True if it reads a metric of the probability-flow ODE."""
        return any(measured_by(name).source == "flow" for name in self.validated)


def _with_method(value: object) -> object:
    if isinstance(value, dict) and "method" not in value:
        return {"method": "grid", **value}
    return value


Search = Annotated[
    Annotated[GridSearch | OptunaSearch, Field(discriminator="method")],
    BeforeValidator(_with_method),
]

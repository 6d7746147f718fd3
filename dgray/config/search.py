"""``search``: how the training axes are covered, and what a search may be asked to optimise."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dgray.config.model import (
    FiniteFloat,
    Model,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Direction = Literal["minimize", "maximize"]
SamplerKind = Literal["tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc", "random", "brute_force"]
# Of each metric the column of the validation split, which alone a search may look at; metrics of
# cost have no split.
VALIDATED = {
    "path_kl_change": "validation_change",
    "kl": "validation_kl",
    "kl_change": "validation_kl_change",
    "nll": "validation_nll",
    "kl_sde": "validation_kl_sde",
    "fid": "validation_fid",
    "fd": "validation_fd",
}
FLOW = ("kl", "kl_change", "nll")  # of the probability-flow ODE
COSTS = ("fit_seconds", "num_parameters")
METRICS = (*VALIDATED, *COSTS)
# Arguments of Optuna's samplers that a study file can state; ``seed`` is a field of its own.
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


def _named(value: object) -> object:
    """A sampler that is given by its name alone has its own defaults."""
    return {"name": value} if isinstance(value, str) else value


def _by_method(value: object) -> object:
    """Likewise a method of early stopping."""
    return {"method": value} if isinstance(value, str) else value


class SearchSampler(Model):
    """A sampler of Optuna, by name, with its arguments and seed."""

    name: SamplerKind = Field("tpe", description="Optuna's sampler")
    seed: NonNegativeInt | None = Field(None, description="null: the study's")
    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="of the sampler, by Optuna's names"
    )

    @model_validator(mode="after")
    def _known_arguments(self) -> Self:
        known = ARGUMENTS[self.name]
        for name, value in self.arguments.items():
            if name not in known:
                names, near = (
                    ", ".join(known) or "none",
                    difflib.get_close_matches(name, known, n=1),
                )
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"arguments of {self.name} must be of: {names}, but got {name!r}{hint}"
                )
            wanted = known[name]
            is_number = wanted is float and type(value) is int
            if type(value) is not wanted and not is_number:
                raise ValueError(f"arguments: {name} must be {wanted.__name__}, but got {value!r}")
        return self


class EarlyStopping(Model):
    """Stops trials between checkpoints by the search's metric on the validation split."""

    method: Literal["asha", "median", "hyperband"] = Field(
        "median",
        description="asha: successive halving (Li et al. 2020); median: below the median of "
        "earlier trials; hyperband: several brackets of halving",
    )
    reduction_factor: Annotated[int, Field(ge=2)] = Field(
        3, description="asha, hyperband: one in so many goes on"
    )
    num_startup_trials: NonNegativeInt = Field(
        5, description="median: finished trials before any is stopped"
    )


class GridSearch(Model):
    """Every combination of the lists."""

    method: Literal["grid"] = Field(description="the default")

    @property
    def validated(self) -> tuple[str, ...]:
        """Metrics that are needed on the validation split: none but those always there."""
        return ()


class OptunaSearch(Model):
    """A search over the fields that are domains, one for each combination of the lists."""

    method: Literal["optuna"] = Field(description="fields that are domains are searched")
    metrics: dict[str, Direction] = Field(
        {"path_kl_change": "minimize"},
        description="what is optimised, always on the validation split; several: a Pareto front. "
        "Of path_kl_change, kl, kl_change, nll, kl_sde, fid, fd, fit_seconds, num_parameters",
    )
    constraints: dict[str, FiniteFloat] = Field(
        {}, description="metrics that must be <= a value, on validation"
    )
    sampler: Annotated[SearchSampler, BeforeValidator(_named)] = SearchSampler()
    num_trials: PositiveInt | None = Field(
        None, description="points of each search; null: until time_budget is used"
    )
    time_budget: PositiveFloat | None = Field(
        None, description="seconds after which no new point is begun; null: no limit"
    )
    rounds: PositiveInt | None = Field(
        None,
        description="ask so many points, wait for all of them, and so on: the sequence of points "
        "then depends on no timing; null: ask whenever a worker is free",
    )
    early_stopping: Annotated[EarlyStopping | None, BeforeValidator(_by_method)] = Field(
        None, description="null: every trial trains to its last checkpoint"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for section in ("metrics", "constraints"):
            for name in getattr(self, section):
                if name not in METRICS:
                    known, near = ", ".join(METRICS), difflib.get_close_matches(name, METRICS, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    raise ValueError(f"{section} must be of: {known}, but got {name!r}{hint}")
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
        """Metrics that are needed on the validation split beside those always there."""
        names = dict.fromkeys([*self.metrics, *self.constraints])
        return tuple(n for n in names if n not in COSTS and n != "path_kl_change")


def _with_method(value: object) -> object:
    """A search whose method is not said is a grid, as every study is by default."""
    if isinstance(value, dict) and "method" not in value:
        return {"method": "grid", **value}
    return value


Search = Annotated[
    Annotated[GridSearch | OptunaSearch, Field(discriminator="method")],
    BeforeValidator(_with_method),
]

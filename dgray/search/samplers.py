"""Builds Optuna's samplers and pruners from the fields of a study."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from dgray.config.search import EarlyStopping, SearchSampler

_SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
    "qmc": optuna.samplers.QMCSampler,
    "random": optuna.samplers.RandomSampler,
    "brute_force": optuna.samplers.BruteForceSampler,
}


def build_sampler(config: SearchSampler, seed: int, number: int) -> BaseSampler:
    """Return a new sampler for the point with this number.

    Its generator is a function of the seed and the number, so that a resumed search suggests the
    same points. A quasi-random sampler has the same seed for all points, because they form one
    sequence whose position Optuna keeps in its study.
    """
    kind = _SAMPLERS[config.name]
    salt = () if config.name == "qmc" else (number,)
    digest = hashlib.sha256(repr((seed, config.name, *salt)).encode()).digest()
    arguments: dict[str, Any] = dict(config.arguments)
    arguments["seed"] = int.from_bytes(digest[:4], "little") >> 1
    if config.name == "qmc":
        arguments["warn_asynchronous_seeding"] = False  # it has a seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return kind(**arguments)


def build_pruner(config: EarlyStopping | None, first: int, last: int) -> BasePruner:
    """Return the pruner; ``first`` and ``last``: epochs of the checkpoints of a trial."""
    if config is None:
        return optuna.pruners.NopPruner()
    if config.method == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=first, reduction_factor=config.reduction_factor
        )
    if config.method == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=last, reduction_factor=config.reduction_factor
        )
    return optuna.pruners.MedianPruner(n_startup_trials=config.num_startup_trials)

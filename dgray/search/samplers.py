"""Optuna's samplers and pruners from a study's fields. Knows Optuna; nothing of trials."""

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
    """A fresh sampler for the point of one number.

    Its generator is a function of the study's seed and that number, so that the next point after a
    restart is the one that would have come without. A quasi-random sequence is one sequence, whose
    position Optuna keeps in its study, so its seed is the same for all points.
    """
    kind = _SAMPLERS[config.name]
    of_point = () if config.name == "qmc" else (number,)
    digest = hashlib.sha256(repr((seed, config.name, *of_point)).encode()).digest()
    arguments: dict[str, Any] = dict(config.arguments)
    arguments["seed"] = int.from_bytes(digest[:4], "little") >> 1
    if config.name == "qmc":
        arguments["warn_asynchronous_seeding"] = False  # its seed is given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # half of them are
        return kind(**arguments)


def build_pruner(config: EarlyStopping | None, first: int, last: int) -> BasePruner:
    """What stops trials; ``first`` and ``last``: epochs of their checkpoints."""
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

"""Epochs of a trial within the budget of its study."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from dgray.catalogue import load_object
from dgray.config.model import MAX_COUNT
from dgray.config.reading.diagnostics import Diagnostic
from dgray.config.reading.load import Study, configure_point
from dgray.config.reading.relevance import relevant_config
from dgray.config.study import StudyConfig
from dgray.errors import DataError, DgrayError, MissingFileError, NetworkError, StudyError

# Imported only for a study with a budget, since counting needs torch.
_EPOCH_FLOPS = "dgray.problem.flops:epoch_flops"
_FIELD = "budget.train_flops"
_NOT_COUNTED = {  # fields that do not change the operations per sample
    "data": ("num_real",),
    "fit": (
        "epochs",
        "checkpoints",
        "batch_size",
        "learning_rate",
        "learning_rate_decay",
        "weight_decay",
        "ema_decay",
        "patience",
        "validate_every",
    ),
}
_counts: dict[str, float] = {}  # operations per sample of this process, by what determines them


def check_budget(study: Study) -> None:
    """Check that the budget of a study covers a possible number of epochs of every trial.

    Points of a search are checked at the ends of each domain.

    Raises:
        StudyError: if it does not, or operations cannot be counted.
    """
    fit, budget = study.configs[0].config.fit, study.configs[0].config.budget.train_flops
    if budget is None:
        return
    costs: dict[str, list[float]] = {}
    problems: dict[Diagnostic, None] = {}
    for config in _trained(study):
        try:
            costs.setdefault(config.method, []).append(_epoch_flops(config))
        except Exception as error:  # of a part of another package: any class is possible
            field, rule = _uncounted(config, error)
            problems[Diagnostic(study.place(field), field, rule)] = None
    if not problems:
        for rule in _broken(budget, costs, fit.epochs):
            problems[Diagnostic(study.place(_FIELD), _FIELD, rule)] = None
    if problems:
        raise StudyError(problems)


def within_budget(config: StudyConfig) -> StudyConfig:
    """Return the configuration with as many epochs as fit into ``budget.train_flops``.

    Checkpoints, and the patience and interval of early stopping, keep their shares of the
    training, to the nearest epoch.

    Raises:
        ValueError: if the budget does not cover a possible number of epochs.
    """
    budget = config.budget.train_flops
    if budget is None or not config.is_trained:
        return config
    per_epoch, fit = _epoch_flops(config), config.fit
    for rule in _broken(budget, {config.method: [per_epoch]}, fit.epochs):
        raise ValueError(f"{_FIELD}: {rule}")
    epochs = int(budget // per_epoch) if per_epoch > 0 else fit.epochs
    last = fit.checkpoint_epochs[-1]
    checkpoints = sorted({max(1, round(epoch / last * epochs)) for epoch in fit.checkpoint_epochs})
    lengths: dict[str, object] = {"epochs": epochs, "checkpoints": tuple(checkpoints)}
    if fit.patience:
        for name in ("patience", "validate_every"):
            lengths[name] = max(1, round(getattr(fit, name) / last * epochs))
    return config.model_copy(update={"fit": fit.model_copy(update=lengths)})


def _trained(study: Study) -> Iterator[StudyConfig]:
    """Yield the configurations that are trained; those of a search with each end of a domain."""
    first = {path: domain.probes[0] for path, domain in study.domains.items()}
    others = (first | {p: probe} for p, d in study.domains.items() for probe in d.probes[1:])
    points = [first, *others]
    for assignment in study.configs:
        configs = [assignment.config]
        if study.domains:
            configs = [configure_point(study, assignment, point) for point in points]
        yield from (config for config in configs if config.is_trained)


def _broken(budget: float, costs: Mapping[str, list[float]], epochs: int) -> Iterator[str]:
    """Yield the rules that a budget breaks; ``costs``: of an epoch, by method."""
    too_high = {method: max(of_method) for method, of_method in costs.items()}
    too_high = {method: cost for method, cost in too_high.items() if cost > budget}
    if too_high:
        listed = ", ".join(f"{cost:.3g} of {method}" for method, cost in too_high.items())
        yield (
            f"must cover an epoch of every trial, but got {budget:g}, and one costs {listed}; "
            f"raise it to {_rounded_up(max(too_high.values())):g} or more"
        )
    too_low = {method: min(of_method) for method, of_method in costs.items()}
    too_low = {method: cost for method, cost in too_low.items() if 0 < cost < budget / MAX_COUNT}
    if too_low:
        listed = ", ".join(f"{budget / cost:.3g} of {method}" for method, cost in too_low.items())
        least = epochs * min(too_low.values())
        yield (
            f"must cover at most {MAX_COUNT:g} epochs of a trial, but got {budget:g}, which "
            f"covers {listed}; lower it ({epochs} epochs cost {least:.3g})"
        )


def _rounded_up(number: float) -> float:
    """Return a number with three digits that is not less than ``number``."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 2)
    return math.ceil(number / unit) * unit


def _uncounted(config: StudyConfig, error: Exception) -> tuple[str, str]:
    """Return field and rule of an error that occurred when operations were counted."""
    if isinstance(error, MissingFileError | DataError):
        return "data", f"{error}; {_FIELD} cannot be counted without it"
    if isinstance(error, NetworkError):
        return "base.network", f"{error}; {_FIELD} cannot be counted without it"
    cause = str(error) if isinstance(error, DgrayError) else f"{type(error).__name__}: {error}"
    return _FIELD, f"the operations of {config.method} cannot be counted: {cause}"


def _epoch_flops(config: StudyConfig) -> float:
    """Return the operations of an epoch; they are proportional to the number of samples."""
    values = relevant_config(config, config.method)
    for section, names in _NOT_COUNTED.items():
        for name in names:
            values[section].pop(name, None)
    key, size = json.dumps(values, sort_keys=True), config.data.num_real
    if key not in _counts:
        _counts[key] = load_object(_EPOCH_FLOPS)(config) / size
    return _counts[key] * size

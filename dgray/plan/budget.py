"""Epochs of a trial within the budget of its study."""

from __future__ import annotations

import json

from dgray.catalogue import load_object
from dgray.config.reading.diagnostics import Diagnostic, Place
from dgray.config.reading.relevance import relevant_config
from dgray.config.study import StudyConfig
from dgray.errors import StudyError

# Imported only for a study with a budget, since counting needs torch.
_EPOCH_FLOPS = "dgray.problem.flops:epoch_flops"
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


def within_budget(config: StudyConfig, file: str, counts: dict[str, float]) -> StudyConfig:
    """Return the configuration with as many epochs as ``budget.train_flops`` pays for.

    Checkpoints, and the patience and interval of early stopping, keep their shares of the
    training, to the nearest epoch.

    Args:
        config: configuration of a trial.
        file: name of the study file.
        counts: operations per sample that were counted before, for trials of the same plan.

    Raises:
        StudyError: if the budget does not pay for one epoch.
    """
    budget = config.budget.train_flops
    if budget is None or not config.is_trained:
        return config
    per_epoch = _epoch_flops(config, counts)
    epochs = int(budget // per_epoch) if per_epoch > 0 else config.fit.epochs
    if epochs < 1:
        rule = (
            f"must pay for an epoch of every trial, but got {budget:g}, and one of "
            f"{config.method} is {per_epoch:.3g}; raise it"
        )
        raise StudyError([Diagnostic(Place.in_file(file), "budget.train_flops", rule)])
    fit = config.fit
    last = fit.checkpoint_epochs[-1]
    checkpoints = sorted({max(1, round(epoch / last * epochs)) for epoch in fit.checkpoint_epochs})
    lengths: dict[str, object] = {"epochs": epochs, "checkpoints": tuple(checkpoints)}
    if fit.patience:
        for name in ("patience", "validate_every"):
            lengths[name] = max(1, round(getattr(fit, name) / last * epochs))
    return config.model_copy(update={"fit": fit.model_copy(update=lengths)})


def _epoch_flops(config: StudyConfig, counts: dict[str, float]) -> float:
    """Return the operations of an epoch; they are proportional to the number of samples."""
    values = relevant_config(config, config.method)
    for section, names in _NOT_COUNTED.items():
        for name in names:
            values[section].pop(name, None)
    key, size = json.dumps(values, sort_keys=True), config.data.num_real
    if key not in counts:
        counts[key] = load_object(_EPOCH_FLOPS)(config) / size
    return counts[key] * size

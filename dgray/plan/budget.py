"""Epochs of a trial within the budget of its study."""

from __future__ import annotations

from dgray.catalogue import load_object
from dgray.config.reading.diagnostics import Diagnostic, Place
from dgray.config.study import StudyConfig
from dgray.errors import StudyError

# Imported only for a study with a budget, since counting needs torch.
_EPOCH_FLOPS = "dgray.problem.flops:epoch_flops"


def within_budget(config: StudyConfig, file: str) -> StudyConfig:
    """Return the configuration with as many epochs as ``budget.train_flops`` pays for.

    Checkpoints keep their shares of the training, to the nearest epoch.

    Raises:
        StudyError: if the budget does not pay for one epoch.
    """
    budget = config.budget.train_flops
    if budget is None or not config.is_trained:
        return config
    per_epoch: float = load_object(_EPOCH_FLOPS)(config)
    epochs = int(budget // per_epoch) if per_epoch > 0 else config.fit.epochs
    if epochs < 1:
        rule = (
            f"must pay for an epoch of every trial, but got {budget:g}, and one of "
            f"{config.method} is {per_epoch:.3g}; raise it"
        )
        raise StudyError([Diagnostic(Place.in_file(file), "budget.train_flops", rule)])
    last = config.fit.checkpoint_epochs[-1]
    shares = [epoch / last for epoch in config.fit.checkpoint_epochs]
    checkpoints = sorted({max(1, round(share * epochs)) for share in shares})
    fit = config.fit.model_copy(update={"epochs": epochs, "checkpoints": tuple(checkpoints)})
    return config.model_copy(update={"fit": fit})

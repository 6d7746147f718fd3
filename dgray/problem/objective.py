"""Builder of the training objective of discriminators."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from dgray.catalogue import OBJECTIVES
from dgray.config.training import Fit
from dgray.discriminator.objective import Objective, Outputs
from dgray.errors import PartError


def build_objective(fit: Fit, span: tuple[float, float]) -> Objective:
    """Return the loss that is minimised in training; ``span``: noise levels of the study."""
    spec = fit.objective.spec
    arguments = fit.objective_arguments | ({"span": span} if spec.needs_span else {})
    objective: Objective = spec.load()(**arguments)
    if not callable(objective):
        raise PartError(
            f"an objective must be a function of outputs, but its factory returned {objective!r}"
        )
    return objective if spec in OBJECTIVES.built_in else partial(_checked_loss, objective)


def _checked_loss(objective: Objective, outputs: Outputs) -> Tensor:
    loss = objective(outputs)
    shape = tuple(outputs.batch.real.sigma.shape)
    if not isinstance(loss, Tensor) or tuple(loss.shape) != shape or not loss.is_floating_point():
        actual = (
            f"{loss.dtype} of shape {tuple(loss.shape)}"
            if isinstance(loss, Tensor)
            else type(loss).__name__
        )
        raise PartError(
            f"an objective must return the loss of each sample, floating-point numbers of shape "
            f"{shape}, but returned {actual}"
        )
    return loss

"""State of a training between two steps, and its safetensors form.

Generators are not part of it: they are named by (seed, replicate, epoch), see ``fit.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import safetensors.torch
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from dgray.adam import Adam
from dgray.discriminator.discriminator import Trainable


@dataclass
class BestWeights:
    """Best weights so far of each replicate, for early stopping.

    Attributes:
        tensors: as ``Trainable.tensors``, leading dimension R.
        loss: their validation loss, shape (R,).
        epoch: their epoch, int64, shape (R,).
        stopped: replicates whose training has ended, bool, shape (R,).
    """

    tensors: list[Tensor]
    loss: Float[Tensor, "R"]
    epoch: Int64[Tensor, "R"]
    stopped: Bool[Tensor, "R"]


@dataclass
class TrainingState:
    """Weights, optimiser, weight average and early stopping of R replicates.

    Attributes:
        ensemble: its tensors require gradients and change in place.
        optimizer: Adam over them.
        ema_decay: decay of the weight average per step; 0: no average is kept.
        average: the averaged tensors; None: no average.
        best: None: no early stopping.
        replicates: indices of the replicates in the study.
        epoch: passes over the real samples so far.
        losses: (epoch, mean training loss since the entry before, shape (R,)) since the last
            checkpoint.
        seconds: wall time of the training since then.
    """

    ensemble: Trainable
    optimizer: Adam
    ema_decay: float
    average: list[Tensor] | None
    best: BestWeights | None
    replicates: Sequence[int]
    epoch: int = 0
    losses: list[tuple[int, Tensor]] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def start(
        ensemble: Trainable,
        *,
        replicates: Sequence[int],
        weight_decay: float = 0.0,
        ema_decay: float = 0.0,
        patience: int = 0,
    ) -> TrainingState:
        """Return the state before the first step."""
        tensors = [t.detach().clone().requires_grad_() for t in ensemble.tensors]
        ensemble = ensemble.with_tensors(tensors)
        optimizer = Adam(tensors, weight_decay)
        average = [t.detach().clone() for t in tensors] if ema_decay else None
        best = None
        if patience:
            count, device = len(replicates), tensors[0].device
            best = BestWeights(
                [t.detach().clone() for t in tensors],
                torch.full((count,), torch.inf, device=device),
                torch.zeros(count, dtype=torch.int64, device=device),
                torch.zeros(count, dtype=torch.bool, device=device),
            )
        return TrainingState(ensemble, optimizer, ema_decay, average, best, replicates)

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Make one step of the optimiser and of the weight average."""
        self.optimizer.minimize(loss, learning_rate)
        if self.average is not None:
            tensors = [t.detach() for t in self.ensemble.tensors]
            torch._foreach_lerp_(self.average, tensors, 1 - self.ema_decay)

    @property
    def stopped(self) -> Bool[Tensor, "R"]:
        """Replicates that early stopping has ended, bool, shape (R,)."""
        if self.best is not None:
            return self.best.stopped
        tensor = self.ensemble.tensors[0]
        return torch.zeros(len(tensor), dtype=torch.bool, device=tensor.device)

    @property
    def has_ended(self) -> bool:
        """True if early stopping has ended all replicates."""
        return self.best is not None and bool(self.best.stopped.all())

    @property
    def stopped_epochs(self) -> tuple[int | None, ...]:
        """Epoch whose weights early stopping keeps, per replicate; None before one."""
        if self.best is None:
            return (None,) * len(self.replicates)
        return tuple(epoch or None for epoch in self.best.epoch.tolist())

    def averaged(self) -> Trainable:
        """Return the ensemble with averaged weights, or with plain ones if none are averaged."""
        tensors = self.ensemble.tensors if self.average is None else self.average
        return self.ensemble.with_tensors([t.detach() for t in tensors])

    def evaluated(self) -> Trainable:
        """Return the ensemble to evaluate: a copy of the averaged or early-stopped weights."""
        tensors = [t.detach().clone() for t in self.averaged().tensors]
        if self.best is not None:
            pairs = zip(self.best.tensors, tensors, strict=True)
            tensors = [_choose(self.best.epoch > 0, best, now) for best, now in pairs]
        return self.ensemble.with_tensors(tensors)

    def keep_best(self, loss: Float[Tensor, "R"], patience: int) -> None:
        """Keep the weights of a lower validation loss (R,); stop replicates without patience."""
        best = self.best
        assert best is not None
        better = (loss < best.loss) & ~best.stopped
        for kept, new in zip(best.tensors, self.averaged().tensors, strict=True):
            kept.copy_(_choose(better, new, kept))
        best.loss = torch.where(better, loss, best.loss)
        best.epoch = torch.where(better, self.epoch, best.epoch)
        best.stopped |= self.epoch - best.epoch >= patience

    def to_bytes(self) -> bytes:
        """Return the state as safetensors."""
        named = {"epoch": torch.tensor(self.epoch)}
        for i, tensor in enumerate(self.ensemble.tensors):
            named[f"weight.{i}"] = tensor.detach()
            for key, value in self.optimizer.state[i].items():
                named[f"optimizer.{i}.{key}"] = value
        for i, tensor in enumerate(self.average or ()):
            named[f"average.{i}"] = tensor
        if self.best is not None:
            named |= {f"best.{i}": tensor for i, tensor in enumerate(self.best.tensors)}
            named |= {"best.loss": self.best.loss, "best.epoch": self.best.epoch}
            named["best.stopped"] = self.best.stopped
        if self.losses:  # between two checkpoints
            epochs, losses = zip(*self.losses, strict=True)
            named |= {"losses.epoch": torch.tensor(epochs), "losses.loss": torch.stack(losses)}
            named["losses.seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        return safetensors.torch.save({k: v.contiguous() for k, v in named.items()})

    def load_bytes(self, data: bytes) -> None:
        """Restore the state that ``to_bytes`` of an equally configured training returned."""
        named = safetensors.torch.load(data)
        self.epoch = int(named["epoch"])
        if "losses.epoch" in named:
            losses = _like(named["losses.loss"], self.ensemble.tensors[0])  # with those to come
            self.losses = list(zip(named["losses.epoch"].tolist(), losses, strict=True))
            self.seconds = float(named["losses.seconds"])
        for i, tensor in enumerate(self.ensemble.tensors):
            with torch.no_grad():
                tensor.copy_(named[f"weight.{i}"])
            prefix = f"optimizer.{i}."
            self.optimizer.state[i] = {
                key.removeprefix(prefix): _like(value, tensor)
                for key, value in named.items()
                if key.startswith(prefix)
            }
        if self.average is not None:
            self.average = [_like(named[f"average.{i}"], t) for i, t in enumerate(self.average)]
        if self.best is not None:
            device = self.best.loss.device
            tensors = [_like(named[f"best.{i}"], t) for i, t in enumerate(self.best.tensors)]
            rest = [named[f"best.{key}"].to(device) for key in ("loss", "epoch", "stopped")]
            self.best = replace(
                self.best, tensors=tensors, loss=rest[0], epoch=rest[1], stopped=rest[2]
            )


def _choose(
    condition: Bool[Tensor, "R"],
    chosen: Shaped[Tensor, "R *size"],
    other: Shaped[Tensor, "R *size"],
) -> Shaped[Tensor, "R *size"]:
    """Return one of two tensors (R, ...) for each replicate, by a condition (R,)."""
    return torch.where(condition.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, other)


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    return tensor.to(other.device)

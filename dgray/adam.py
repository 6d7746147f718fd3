"""Adam with decoupled weight decay, as ``torch.optim.AdamW``, without the cost of its class.

The class imports ``torch._dynamo``, 1.2 s of CPU time in each process that trains; the function
that computes its steps does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

STATE = ("exp_avg", "exp_avg_sq", "step")  # of each tensor; torch's names, which files contain
FUSED_DEVICES = ("cpu", "cuda")


class Adam:
    """Adam over tensors (Kingma and Ba 2015, arXiv 1412.6980; decay: arXiv 1711.05101).

    Attributes:
        tensors: they change in place.
        state: tensors of ``STATE`` by name, for each of ``tensors``.
    """

    def __init__(self, tensors: Iterable[Tensor], weight_decay: float = 0.0) -> None:
        self.tensors = list(tensors)
        self.state = [_initial(tensor) for tensor in self.tensors]
        self._weight_decay = weight_decay

    def minimize(self, loss: Tensor, learning_rate: float) -> None:
        """Make one step against the gradient of a loss; tensors without one stay as they are."""
        for tensor in self.tensors:
            tensor.grad = None
        loss.backward()
        with_gradient = [i for i, tensor in enumerate(self.tensors) if tensor.grad is not None]
        tensors = [self.tensors[i] for i in with_gradient]
        means, squares, steps = ([self.state[i][name] for i in with_gradient] for name in STATE)
        with torch.no_grad():
            adamw(
                tensors,
                [tensor.grad for tensor in tensors if tensor.grad is not None],
                means,
                squares,
                [],
                steps,
                fused=all(tensor.device.type in FUSED_DEVICES for tensor in tensors),
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=learning_rate,
                weight_decay=self._weight_decay,
                eps=1e-8,
                maximize=False,
            )


def _initial(tensor: Tensor) -> dict[str, Tensor]:
    mean, square = (torch.zeros_like(tensor.detach()) for _ in range(2))
    device = tensor.device if tensor.device.type in FUSED_DEVICES else "cpu"  # as torch does
    step = torch.zeros((), dtype=torch.float32, device=device)
    return dict(zip(STATE, (mean, square, step), strict=True))

"""Adam: the steps of torch's own class, bit for bit, without what that class imports."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgray.adam import STATE, Adam

SHAPES = ((3, 4, 2), (5,), (2, 2))


def loss(tensors: list[Tensor], step: int) -> Tensor:
    """A loss whose gradient changes; the last tensor has none at first."""
    used = tensors if step > 2 else tensors[:-1]
    return torch.stack([((t - step / 7) ** 2 * t.cos()).sum() for t in used]).sum()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_those_of_torch(weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    adam = Adam(ours, weight_decay)
    adamw = torch.optim.AdamW(theirs, weight_decay=weight_decay, fused=True)
    for step in range(6):
        learning_rate = 0.1 / (1 + step)
        adam.minimize(loss(ours, step), learning_rate)
        adamw.param_groups[0]["lr"] = learning_rate
        adamw.zero_grad()
        loss(theirs, step).backward()
        adamw.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other)
    for state, tensor in zip(adam.state, theirs, strict=True):
        assert all(torch.equal(state[name], adamw.state[tensor][name]) for name in STATE)

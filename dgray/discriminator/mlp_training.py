r"""Derivatives of losses by the weights of a perceptron, written out.

Automatic differentiation would run one kernel per elementary operation; these two need few, and
keep what the forward pass has already computed. With columns as samples, a layer is
h = W^T a + b, a' = phi(h).

- For the logit: backpropagation, with adjoints p = dL/dh.
- For the gradient g in x: with G = dL/dg held fixed, <G, g> is the derivative of the logit in the
  direction G, a forward pass of tangents t. Its adjoints in the tangents are the vectors
  u = d logit / dh that the gradient itself has computed (Pearlmutter 1994, doi:
  10.1162/neco.1994.6.1.147), so dL/dW = a p^T + t u^T with
  p = phi''(h) (W^T t) v + phi'(h) (W_next p_next), v = d logit / da'. A step of the KL objective
  thus takes as many matrix products as one of the cross-entropy, which has two sets of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Layers = Sequence[tuple[Tensor, ...]]
"""Activation and derivatives of every hidden layer, each of shape (..., width, n)."""


class TrainedLogit(torch.autograd.Function):
    """Logit whose derivatives by the weights are written out."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, layers: Layers, logit: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return the logit, (..., 1, n), of these layers.

        Args:
            ctx: context of ``torch.autograd``.
            inputs: input of the first layer, (..., in, n).
            layers: hidden layers with phi and phi', computed without a graph.
            logit: output of the last layer, computed without a graph.
            tensors: all weights, (..., in, out), then all biases, (..., 1, out).
        """
        ctx.inputs, ctx.layers = inputs, layers
        ctx.save_for_backward(*tensors[: len(tensors) // 2])
        return logit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives by all tensors, given the derivative by the logit."""
        weights, layers = ctx.saved_tensors, ctx.layers
        of_weights, of_biases = [], []
        for layer in range(len(weights) - 1, -1, -1):
            a = layers[layer - 1][0] if layer else ctx.inputs
            of_weights.append(a @ adjoint.mT)
            of_biases.append(adjoint.sum(-1)[..., None, :])
            if layer:
                adjoint = (weights[layer] @ adjoint).mul_(layers[layer - 1][1])
        return None, None, None, *of_weights[::-1], *of_biases[::-1]


class TrainedGradient(torch.autograd.Function):
    """Gradient of the logit in x whose derivatives by the weights are written out."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        layers: Layers,
        backs: Sequence[Tensor],
        gradient: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        """Return the gradient by the first d rows of the inputs, (..., d, n).

        Args:
            ctx: context of ``torch.autograd``.
            inputs: input of the first layer, (..., in, n).
            layers: hidden layers with phi, phi' and phi'', computed without a graph.
            backs: d logit / d phi(h) of each hidden layer, computed without a graph.
            gradient: gradient of the logit, computed without a graph.
            tensors: all weights, (..., in, out), then all biases, (..., 1, out).
        """
        ctx.inputs, ctx.layers, ctx.backs, ctx.dimension = (
            inputs,
            layers,
            backs,
            gradient.shape[-2],
        )
        ctx.save_for_backward(*tensors[: len(tensors) // 2])
        return gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives by all tensors, given the derivative by the gradient."""
        weights, layers, backs = ctx.saved_tensors, ctx.layers, ctx.backs
        tangents, curvatures = [direction], []
        for layer, (_, first, second) in enumerate(layers):
            weight = weights[layer][..., : tangents[-1].shape[-2], :]
            moved = weight.mT @ tangents[-1]
            tangents.append(first * moved)
            curvatures.append(moved.mul_(second).mul_(backs[layer]))
        of_weights = [tangents[-1].sum(-1)[..., None]]
        of_biases: list[Tensor | None] = [None]  # the gradient in x does not depend on it
        adjoint = None
        for layer in range(len(layers) - 1, -1, -1):
            _, first, _ = layers[layer]
            below = curvatures[layer]
            adjoint = (
                below if adjoint is None else below.addcmul_(weights[layer + 1] @ adjoint, first)
            )
            a = layers[layer - 1][0] if layer else ctx.inputs
            of_weight = a @ adjoint.mT
            of_weight[..., : tangents[layer].shape[-2], :] += (
                tangents[layer] @ (backs[layer] * first).mT
            )
            of_weights.append(of_weight)
            of_biases.append(adjoint.sum(-1)[..., None, :])
        return None, None, None, None, *of_weights[::-1], *of_biases[::-1]

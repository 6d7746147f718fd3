r"""Ensembles of multilayer perceptrons on (x, ln sigma) with one logit.

The input is (x / sqrt(sigma^2 + sigma_data^2), ln(sigma) / 4, sin and cos of ln sigma), with EDM's
input scaling (Karras et al. 2022, arXiv 2206.00364, Table 1), and the one-hot vector of the class
if the network is conditional. Gradient and Laplacian in x are written out: the gradient is then an
ordinary differentiable expression (the KL objective needs its derivative by the weights), and
value, d first derivatives and the Laplacian travel forward together (Li et al. 2024, arXiv
2307.08214) at the cost of d + 2 passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus
from typing_extensions import override

from dgray.discriminator.discriminator import (
    Ensemble,
    RowProbes,
    Rows,
    RowScalars,
    draw_dropout_masks,
)

NOISE_FEATURES = 3  # ln(sigma) / 4, sin(ln sigma), cos(ln sigma)
BLOCK_UNITS = 2**17  # hidden units of a block of rows: 0.5 MB, so that a layer stays in the cache

Activation = Callable[[Tensor, int], tuple[Tensor, ...]]
"""(h, order) -> (phi(h), phi'(h), ...) up to that order, 0 to 2, each of the shape of h."""


def _silu(h: Tensor, order: int) -> tuple[Tensor, ...]:
    s = torch.sigmoid(h)
    value = h * s
    if order == 0:
        return (value,)
    first = torch.addcmul(s, value, 1 - s)  # s + h s (1 - s)
    if order == 1:
        return value, first
    # second = s (1 - s) (2 + h - 2 value), in place to save memory
    return value, first, (s - s * s).mul_(2 + h - 2 * value)


def _softplus(h: Tensor, order: int) -> tuple[Tensor, ...]:
    s = torch.sigmoid(h)
    return (softplus(h), s, s * (1 - s))[: order + 1]


def _tanh(h: Tensor, order: int) -> tuple[Tensor, ...]:
    t = torch.tanh(h)
    first = 1 - t**2
    return (t, first, -2 * t * first)[: order + 1]


ACTIVATIONS: Mapping[str, Activation] = {"silu": _silu, "softplus": _softplus, "tanh": _tanh}
"""Smooth activations with two derivatives: guidance is a gradient, likelihood a Laplacian."""


@dataclass(frozen=True)
class Mlp(Ensemble):
    """One network, or R networks whose tensors carry a leading dimension R.

    An ensemble takes x of shape (R, N, d) and sigma of shape (R, N), a single network (N, d) and
    (N,). Outputs have the dtype of x; the arithmetic is in the dtype of the weights.

    Attributes:
        weights: weights of each layer, (in, out) or (R, in, out); the last has out = 1.
        biases: biases of each layer, (1, out) or (R, 1, out).
        sigma_data: scale of the data, > 0.
        activation: a name of ``ACTIVATIONS``.
        masks: dropout masks of the hidden layers, (R, N, width) each; empty: no dropout.
        num_classes: number of classes; 0: unconditional.
        labels: class of every row, int64, broadcast to the shape of sigma, -1: no class; None: no
            row has one.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    sigma_data: float
    activation: str = "silu"
    masks: tuple[Tensor, ...] = ()
    num_classes: int = 0
    labels: Tensor | None = None

    @property
    def dimension(self) -> int:
        """Dimension d of x."""
        return self.weights[0].shape[-2] - NOISE_FEATURES - self.num_classes

    @property
    @override
    def num_parameters(self) -> int:
        return sum(t.shape[-2] * t.shape[-1] for t in self.tensors)

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        """All weights, then all biases."""
        return (*self.weights, *self.biases)

    @override
    def with_tensors(self, tensors: Sequence[Tensor]) -> Mlp:
        count = len(self.weights)
        return replace(self, weights=tuple(tensors[:count]), biases=tuple(tensors[count:]))

    @override
    def member(self, index: int) -> Mlp:
        return replace(self.with_tensors([t[index] for t in self.tensors]), masks=(), labels=None)

    def with_labels(self, labels: Tensor) -> Mlp:
        """Return the same network, bound to the class of every row.

        Raises:
            ValueError: if a label is neither a class nor -1.
        """
        low, high = (int(labels.min()), int(labels.max())) if labels.numel() else (-1, -1)
        if low < -1 or high >= self.num_classes:
            raise ValueError(
                f"labels must be classes from 0 to {self.num_classes - 1}, or -1 for none, but "
                f"they go from {low} to {high}"
            )
        return replace(self, labels=labels)

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Mlp:
        """Drop hidden units of each row."""
        shapes = [(num_rows, weight.shape[-1]) for weight in self.weights[:-1]]
        masks = draw_dropout_masks(probability, generators, shapes, self.weights[0])
        return replace(self, masks=masks)

    @override
    def logit(self, x: Rows, sigma: RowScalars) -> RowScalars:
        return self._in_blocks(Mlp._logit, x, sigma)

    @override
    def gradient(self, x: Rows, sigma: RowScalars) -> Rows:
        return self._in_blocks(Mlp._gradient, x, sigma)

    @override
    def gradient_and_laplacian(
        self, x: Rows, sigma: RowScalars, probes: RowProbes | None = None
    ) -> tuple[Rows, RowScalars]:
        a, scale = self._input(x, sigma)
        d = self.dimension
        hidden = self._affine(0, a)
        # jets: value, d tangents and the Laplacian, stacked in front: (d + 2, ..., width)
        rows = self.weights[0][..., :d, :].movedim(-2, 0)  # (d, width) or (d, R, width)
        rows = rows.reshape(d, *rows.shape[1:-1], *[1] * (scale.ndim + 1 - rows.ndim), -1)
        tangents, laplacian = scale * rows, torch.zeros_like(hidden)
        for layer in range(1, len(self.weights)):
            a, first, second = self._activate(layer - 1, hidden, 2)
            curvature = second.mul_((tangents**2).sum(0)).addcmul_(first, laplacian)
            jets = torch.cat([a[None], tangents * first, curvature[None]])
            jets = jets @ self.weights[layer]
            hidden = jets[0] + self.biases[layer]
            tangents, laplacian = jets[1:-1], jets[-1]
        return tangents[..., 0].movedim(0, -1).to(x.dtype), laplacian[..., 0].to(x.dtype)

    def _in_blocks(
        self, compute: Callable[[Mlp, Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor
    ) -> Tensor:
        """Compute a few rows at a time where that saves time: one network on a CPU, no graph."""
        rows = max(1, BLOCK_UNITS // self.weights[0].shape[-1])
        is_ensemble = self.weights[0].ndim > 2
        if torch.is_grad_enabled() or is_ensemble or x.is_cuda or sigma.numel() <= rows:
            return compute(self, x, sigma)
        blocks = zip(x.flatten(0, -2).split(rows), sigma.flatten().split(rows), strict=True)
        if self.labels is None:
            values = torch.cat([compute(self, *block) for block in blocks])
        else:
            labels = self.labels.expand(sigma.shape).flatten().split(rows)
            bound = (replace(self, labels=of_block) for of_block in labels)
            values = torch.cat([compute(m, *b) for m, b in zip(bound, blocks, strict=True)])
        return values.reshape(*sigma.shape, *values.shape[1:])

    def _logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        a, _ = self._input(x, sigma)
        for layer in range(len(self.weights) - 1):
            (a,) = self._activate(layer, self._affine(layer, a), 0)
        return self._affine(-1, a)[..., 0].to(x.dtype)

    def _gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        a, scale = self._input(x, sigma)
        slopes = []
        for layer in range(len(self.weights) - 1):
            a, slope = self._activate(layer, self._affine(layer, a), 1)
            slopes.append(slope)
        back = self.weights[-1].mT  # (1, width): d logit / d a of the last hidden layer
        for layer in range(len(slopes) - 1, -1, -1):
            back = (back * slopes[layer]) @ self._x_rows(layer).mT
        return (back * scale).to(x.dtype)

    def _input(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the first layer, and the factor that scaled x, (..., N, 1)."""
        sigma = sigma.to(self.weights[0].dtype)[..., None]
        scale = (sigma**2 + self.sigma_data**2).rsqrt()
        log_sigma = sigma.log()
        features = [x.to(scale.dtype) * scale, log_sigma / 4, log_sigma.sin(), log_sigma.cos()]
        if self.num_classes:
            shape = sigma.shape[:-1]
            labels = sigma.new_full(shape, -1) if self.labels is None else self.labels
            classes = torch.arange(self.num_classes, device=sigma.device)
            features.append((labels.expand(shape)[..., None] == classes).to(scale.dtype))
        return torch.cat(features, dim=-1), scale

    def _affine(self, layer: int, a: Tensor) -> Tensor:
        return a @ self.weights[layer] + self.biases[layer]

    def _activate(self, layer: int, h: Tensor, order: int) -> tuple[Tensor, ...]:
        """Return the activation of a hidden layer and its derivatives, with dropout."""
        values = ACTIVATIONS[self.activation](h, order)
        return tuple(value * self.masks[layer] for value in values) if self.masks else values

    def _x_rows(self, layer: int) -> Tensor:
        """Return the weights of a layer; of the first only those of x."""
        weight = self.weights[layer]
        return weight[..., : self.dimension, :] if layer == 0 else weight


@dataclass(frozen=True, kw_only=True)
class MlpShape:
    """Size of a perceptron.

    Attributes:
        dimension: d of x.
        width: units of a hidden layer.
        depth: number of hidden layers.
        activation: a name of ``ACTIVATIONS``.
        num_classes: number of classes; 0: unconditional.
    """

    dimension: int
    width: int
    depth: int
    activation: str = "silu"
    num_classes: int = 0


def initialise(shape: MlpShape, sigma_data: float, generators: Sequence[torch.Generator]) -> Mlp:
    """Return a float32 ensemble with initial weights; generators[r] alone draws member r.

    Hidden layers follow He et al. 2015 (arXiv 1502.01852); the last layer starts at zero, so that
    guidance starts at zero.
    """
    inputs = shape.dimension + NOISE_FEATURES + shape.num_classes
    sizes = [inputs, *[shape.width] * shape.depth, 1]
    weights = []
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        std = math.sqrt(2 / fan_in) if layer < shape.depth else 0.0
        draws = [torch.randn(fan_in, fan_out, generator=g) * std for g in generators]
        weights.append(torch.stack(draws))
    biases = tuple(torch.zeros(len(generators), 1, size) for size in sizes[1:])
    return Mlp(tuple(weights), biases, sigma_data, shape.activation, num_classes=shape.num_classes)

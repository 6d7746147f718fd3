r"""Ensembles of multilayer perceptrons on (x, ln sigma) with one logit.

The input is (x / sqrt(sigma^2 + sigma_data^2), ln(sigma) / 4, sin and cos of ln sigma), with EDM's
input scaling (Karras et al. 2022, arXiv 2206.00364, Table 1), and the one-hot vector of the class
if the network is conditional. Gradient and Laplacian in x are written out: the gradient is then an
ordinary differentiable expression (the KL objective needs its derivative by the weights), and
value, d first derivatives and the Laplacian travel forward together (Li et al. 2024, arXiv
2307.08214) at the cost of d + 2 passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus
from typing_extensions import override

from dgray.diffusion.denoiser import check_labels
from dgray.discriminator.discriminator import (
    Ensemble,
    RowProbes,
    Rows,
    RowScalars,
    draw_dropout_masks,
)
from dgray.discriminator.mlp_training import TrainedGradient, TrainedLogit

NOISE_FEATURES = 3  # ln(sigma) / 4, sin(ln sigma), cos(ln sigma)
BLOCK_UNITS = 2**17  # numbers of a hidden layer of a block of rows: 0.5 MB, to stay in the cache
BLOCK_MULTIPLE = 64  # rows; the last rows of other numbers of rows are rounded differently

Activation = Callable[[Tensor, int], tuple[Tensor, ...]]
"""(h, order) -> (phi(h), phi'(h), ...) up to that order, 0 to 2, each of the shape of h."""


def _silu(h: Tensor, order: int) -> tuple[Tensor, ...]:
    s = torch.sigmoid(h)
    value = h * s
    if order == 0:
        return (value,)
    rest = 1 - s
    first = torch.addcmul(s, value, rest)  # s + h s (1 - s)
    if order == 1:
        return value, first
    # second = s (1 - s) (2 + h - 2 value)
    return value, first, (s * rest).mul_((h + 2).sub_(value, alpha=2))


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
        check_labels(labels, self.num_classes)
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
        (logit,) = self._in_blocks(Mlp._logit, x, sigma, arrays=1)
        return logit

    @override
    def gradient(self, x: Rows, sigma: RowScalars) -> Rows:
        (gradient,) = self._in_blocks(Mlp._gradient, x, sigma, arrays=1)
        return gradient

    @override
    @torch.no_grad()
    def gradient_and_laplacian(
        self, x: Rows, sigma: RowScalars, probes: RowProbes | None = None
    ) -> tuple[Rows, RowScalars]:
        gradient, laplacian = self._in_blocks(Mlp._jets, x, sigma, arrays=self.dimension + 2)
        return gradient, laplacian

    def _in_blocks(
        self,
        compute: Callable[[Mlp, Tensor, Tensor], tuple[Tensor, ...]],
        x: Tensor,
        sigma: Tensor,
        *,
        arrays: int,
    ) -> tuple[Tensor, ...]:
        """Compute a few rows at a time where that saves time: one network on a CPU, no graph.

        Args:
            compute: maps x (R, n, d) and sigma (R, n), of a single network (n, d) and (n,), to
                values of shape (..., d, n) or (..., n); the network is bound to their labels.
            x: see ``logit``.
            sigma: see ``logit``.
            arrays: numbers that a hidden unit has of each row.
        """
        width = self.weights[0].shape[-1]
        if self.weights[0].ndim > 2:
            members = len(self.weights[0])
            x, sigma = x.expand(members, -1, -1), sigma.expand(members, -1)
            return tuple(_rows_first(v, sigma.ndim, x.dtype) for v in compute(self, x, sigma))
        flat, levels = x.reshape(-1, x.shape[-1]), sigma.reshape(-1)
        rows = max(BLOCK_UNITS // (width * arrays) // BLOCK_MULTIPLE, 1) * BLOCK_MULTIPLE
        if torch.is_grad_enabled() or x.is_cuda:
            rows = max(1, len(levels))
        blocks = zip(
            self._split(sigma.shape, rows), flat.split(rows), levels.split(rows), strict=False
        )
        parts = zip(*(compute(*block) for block in blocks), strict=True)
        joined = (part[0] if len(part) == 1 else torch.cat(part, dim=-1) for part in parts)
        values = (_rows_first(value, 1, x.dtype) for value in joined)
        return tuple(v.reshape(*sigma.shape, *v.shape[1:]) for v in values)

    def _split(self, shape: torch.Size, rows: int) -> Iterable[Mlp]:
        """Return the network for each block of rows, bound to their labels."""
        if self.labels is None:
            return itertools.repeat(self)
        labels = self.labels.expand(shape).reshape(-1).split(rows)
        return [replace(self, labels=of_block) for of_block in labels]

    def _logit(self, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
        a, _ = self._columns(x, sigma)
        if not self._is_trained_at(x):
            return (self._affine(-1, self._hidden(a, 0)[-1][0])[..., 0, :],)
        with torch.no_grad():
            layers = self._hidden(a, 1)
            logit = self._affine(-1, layers[-1][0])
        return (TrainedLogit.apply(a, layers, logit, *self.tensors)[..., 0, :],)

    def _gradient(self, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
        a, scale = self._columns(x, sigma)
        if not self._is_trained_at(x):
            return (self._backs(self._hidden(a, 1))[0] * scale,)
        with torch.no_grad():
            layers = self._hidden(a, 2)
            gradient, *backs = self._backs(layers)
        return (TrainedGradient.apply(a, layers, backs, gradient, *self.tensors) * scale,)

    def _is_trained_at(self, x: Tensor) -> bool:
        """Return whether the loss is differentiated by the weights, and not by x."""
        needs_weights = any(tensor.requires_grad for tensor in self.tensors)
        return torch.is_grad_enabled() and needs_weights and not x.requires_grad

    def _jets(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        a, scale = self._columns(x, sigma)
        d, hidden = self.dimension, self._affine(0, a)
        # value, d tangents and the Laplacian, stacked in front: (d + 2, ..., width, n)
        jets = hidden.new_zeros(d + 2, *hidden.shape)
        jets[0] = hidden
        jets[1:-1] = self._x_rows(0).movedim(-2, 0)[..., None] * scale
        for layer in range(1, len(self.weights)):
            value, first, second = self._activate(layer - 1, jets[0], 2)
            curvature = (jets[1:-1] ** 2).sum(0).mul_(second)
            jets[1:] *= first
            jets[-1] += curvature
            jets[0] = value
            jets = self.weights[layer].mT @ jets
            jets[0] += self.biases[layer].mT
        return jets[1:-1, ..., 0, :].movedim(0, -2), jets[-1, ..., 0, :]

    def _hidden(self, a: Tensor, order: int) -> list[tuple[Tensor, ...]]:
        """Return the activation of each hidden layer and its derivatives up to an order."""
        layers = []
        for layer in range(len(self.weights) - 1):
            layers.append(self._activate(layer, self._affine(layer, a), order))
            a = layers[-1][0]
        return layers

    def _backs(self, layers: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the derivatives of the logit by x, scaled, and by each hidden activation."""
        backs = [self.weights[-1]]
        for layer in range(len(layers) - 1, -1, -1):
            backs.insert(0, self._x_rows(layer) @ (backs[0] * layers[layer][1]))
        return backs

    def _columns(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the first layer, (..., in, n), and the scale of x, (..., 1, n)."""
        a, scale = self._input(x, sigma)
        return a.mT, scale.mT

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
        bias, weight = self.biases[layer].mT, self.weights[layer].mT
        return torch.addmm(bias, weight, a) if a.ndim == 2 else torch.baddbmm(bias, weight, a)

    def _activate(self, layer: int, h: Tensor, order: int) -> tuple[Tensor, ...]:
        """Return the activation of a hidden layer and its derivatives, with dropout."""
        values = ACTIVATIONS[self.activation](h, order)
        return tuple(value * self.masks[layer].mT for value in values) if self.masks else values

    def _x_rows(self, layer: int) -> Tensor:
        """Return the weights of a layer; of the first only those of x."""
        weight = self.weights[layer]
        return weight[..., : self.dimension, :] if layer == 0 else weight


def _rows_first(value: Tensor, num_scalar_axes: int, dtype: torch.dtype) -> Tensor:
    """Return scalars as they are and vectors (..., d, n) as (..., n, d), in a dtype."""
    return (value.mT if value.ndim > num_scalar_axes else value).to(dtype)


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


def min_weights(dimension: int, width: int, depth: int) -> int:
    """Return a lower bound of the number of weights: those of the hidden layers."""
    return width * dimension + width**2 * (depth - 1)


def initialise(shape: MlpShape, sigma_data: float, generators: Sequence[torch.Generator]) -> Mlp:
    """Return a float32 ensemble with initial weights; generators[r] alone draws member r.

    Hidden layers follow He et al. 2015 (arXiv 1502.01852); the last layer starts at zero, so that
    guidance starts at zero.
    """
    inputs = shape.dimension + NOISE_FEATURES + shape.num_classes
    sizes = [inputs, *[shape.width] * shape.depth, 1]
    weights = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        std = math.sqrt(2 / fan_in) if layer < shape.depth else 0.0
        draws = [torch.randn(fan_in, fan_out, generator=g) * std for g in generators]
        weights.append(torch.stack(draws))
    biases = tuple(torch.zeros(len(generators), 1, size) for size in sizes[1:])
    return Mlp(tuple(weights), biases, sigma_data, shape.activation, num_classes=shape.num_classes)

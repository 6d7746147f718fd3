r"""A multilayer perceptron on (x, ln sigma) with one logit; many of them as one batched ensemble.

Its input is (x / sqrt(sigma^2 + sigma_data^2), ln(sigma) / 4, sin and cos of ln sigma), EDM's
scaling (Karras et al. 2022, Table 1). Gradient and Laplacian in x are written out instead of asked
from automatic differentiation: the gradient is then an ordinary differentiable expression (the
KL objective needs its derivative by the weights), and value, d first derivatives and the Laplacian
travel forward together (Li et al. 2024, arXiv 2307.08214) at the cost of d + 2 passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

NOISE_FEATURES = 3  # ln(sigma) / 4, sin(ln sigma), cos(ln sigma)

Derivatives = Callable[[Tensor, int], tuple[Tensor, ...]]
"""(h, order) -> (phi(h), phi'(h), ...) up to that order, 0 to 2, each of the shape of h."""


def silu(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """The function h sigmoid(h)."""
    s = torch.sigmoid(h)
    value = h * s
    if order == 0:
        return (value,)
    first = torch.addcmul(s, value, 1 - s)  # s + h s (1 - s)
    if order == 1:
        return value, first
    # second = s (1 - s) (2 + h - 2 value), written to reuse what is there
    return value, first, (s - s * s).mul_(2 + h - 2 * value)


def softplus_(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """log(1 + exp h)."""
    s = torch.sigmoid(h)
    return (softplus(h), s, s * (1 - s))[: order + 1]


def tanh(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """Hyperbolic tangent."""
    t = torch.tanh(h)
    first = 1 - t**2
    return (t, first, -2 * t * first)[: order + 1]


ACTIVATIONS: Mapping[str, Derivatives] = {"silu": silu, "softplus": softplus_, "tanh": tanh}


@dataclass(frozen=True)
class Mlp:
    """One network, or R networks whose tensors carry a leading dimension R.

    Attributes:
        weights: per layer (in, out), or (R, in, out); the last has out = 1.
        biases: per layer (1, out), or (R, 1, out).
        sigma_data: scale of the data, > 0.
        activation: a name of ``ACTIVATIONS``.

    An ensemble takes x of shape (R, N, d) and sigma of shape (R, N), a single network (N, d) and
    (N,). Outputs have the dtype of x; the arithmetic is in that of the weights.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    sigma_data: float
    activation: str = "silu"

    @property
    def dimension(self) -> int:
        """d, the dimension of x."""
        return self.weights[0].shape[-2] - NOISE_FEATURES

    @property
    def num_parameters(self) -> int:
        """Parameters of one network."""
        return sum(t.shape[-2] * t.shape[-1] for t in self.tensors)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(w.shape[-1] for w in self.weights[:-1])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All weights, then all biases."""
        return (*self.weights, *self.biases)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Mlp:
        """The same network with other ``tensors``."""
        count = len(self.weights)
        return replace(self, weights=tuple(tensors[:count]), biases=tuple(tensors[count:]))

    def member(self, index: int) -> Mlp:
        """One network of an ensemble."""
        return self.with_tensors([t[index] for t in self.tensors])

    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> DroppedMlp:
        """See ``Ensemble``."""
        return DroppedMlp.draw(self, probability, generators, num_rows)

    def logit(self, x: Tensor, sigma: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """d(x; sigma), shape (N,) or (R, N); ``masks``: dropout, one per hidden layer or none."""
        a, _ = self._input(x, sigma)
        for layer in range(len(self.weights) - 1):
            (a,) = ACTIVATIONS[self.activation](self._affine(layer, a), 0)
            a = a * masks[layer] if masks else a
        return self._affine(-1, a)[..., 0].to(x.dtype)

    def gradient(self, x: Tensor, sigma: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """grad_x d, shape of x; differentiable by the weights."""
        a, scale = self._input(x, sigma)
        slopes = []
        for layer in range(len(self.weights) - 1):
            a, slope = ACTIVATIONS[self.activation](self._affine(layer, a), 1)
            a, slope = (a * masks[layer], slope * masks[layer]) if masks else (a, slope)
            slopes.append(slope)
        back = self.weights[-1].mT  # (1, width): d logit / d a of the last hidden layer
        for layer in range(len(slopes) - 1, -1, -1):
            back = (back * slopes[layer]) @ self._x_rows(layer).mT
        return (back * scale).to(x.dtype)

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """grad_x d, shape of x, and the sum of second derivatives, shape of sigma."""
        a, scale = self._input(x, sigma)
        d = self.dimension
        hidden = self._affine(0, a)
        # jets: value, d tangents and the Laplacian, stacked in front: (d + 2, ..., width)
        rows = self.weights[0][..., :d, :].movedim(-2, 0)  # (d, width) or (d, R, width)
        rows = rows.reshape(d, *rows.shape[1:-1], *[1] * (scale.ndim + 1 - rows.ndim), -1)
        tangents, laplacian = scale * rows, torch.zeros_like(hidden)
        for layer in range(1, len(self.weights)):
            a, first, second = ACTIVATIONS[self.activation](hidden, 2)
            curvature = second.mul_((tangents**2).sum(0)).addcmul_(first, laplacian)
            jets = torch.cat([a[None], tangents * first, curvature[None]])
            jets = jets @ self.weights[layer]
            hidden = jets[0] + self.biases[layer]
            tangents, laplacian = jets[1:-1], jets[-1]
        return tangents[..., 0].movedim(0, -1).to(x.dtype), laplacian[..., 0].to(x.dtype)

    def _input(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's input, and the factor that scaled x, shape (..., N, 1)."""
        sigma = sigma.to(self.weights[0].dtype)[..., None]
        scale = (sigma**2 + self.sigma_data**2).rsqrt()
        log_sigma = sigma.log()
        features = (x.to(scale.dtype) * scale, log_sigma / 4, log_sigma.sin(), log_sigma.cos())
        return torch.cat(features, dim=-1), scale

    def _affine(self, layer: int, a: Tensor) -> Tensor:
        return a @ self.weights[layer] + self.biases[layer]

    def _x_rows(self, layer: int) -> Tensor:
        """Weights by which a layer's input reaches it; of the first layer only x's rows."""
        weight = self.weights[layer]
        return weight[..., : self.dimension, :] if layer == 0 else weight


@dataclass(frozen=True)
class DroppedMlp:
    """An ensemble in training with dropout: given masks drop hidden units of each row."""

    mlp: Mlp
    masks: tuple[Tensor, ...]  # per hidden layer (R, N, width): 0 or 1 / (1 - probability)

    @staticmethod
    def draw(
        mlp: Mlp, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> DroppedMlp:
        """Fresh masks, those of member r from generators[r] alone."""
        masks = []
        for width in mlp.hidden_widths:
            uniform = [torch.rand(num_rows, width, generator=g) for g in generators]
            kept = (torch.stack(uniform) >= probability).to(mlp.weights[0])
            masks.append(kept / (1 - probability))
        return DroppedMlp(mlp, tuple(masks))

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Mlp.logit``."""
        return self.mlp.logit(x, sigma, self.masks)

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Mlp.gradient``."""
        return self.mlp.gradient(x, sigma, self.masks)


@dataclass(frozen=True, kw_only=True)
class MlpShape:
    """Size of a network: x's dimension, hidden units per layer, hidden layers."""

    dimension: int
    width: int
    depth: int
    activation: str = "silu"


def initialise(shape: MlpShape, sigma_data: float, generators: Sequence[torch.Generator]) -> Mlp:
    """A fresh float32 ensemble, member r drawn from generators[r] alone.

    Hidden layers follow He et al. 2015 (arXiv 1502.01852); the last layer starts at zero, so that
    guidance starts at zero.
    """
    sizes = [shape.dimension + NOISE_FEATURES, *[shape.width] * shape.depth, 1]
    weights = []
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        std = math.sqrt(2 / fan_in) if layer < shape.depth else 0.0
        draws = [torch.randn(fan_in, fan_out, generator=g) * std for g in generators]
        weights.append(torch.stack(draws))
    biases = tuple(torch.zeros(len(generators), 1, size) for size in sizes[1:])
    return Mlp(tuple(weights), biases, sigma_data, shape.activation)

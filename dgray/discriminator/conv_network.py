r"""Convolutional encoder from an image to one logit, R networks at once.

A stem, then residual blocks of group normalisation (Wu and He 2018, arXiv 1803.08494), SiLU and
3x3 convolutions, with average pooling between levels until no side is longer than 4; a mean over
the pixels and one linear unit. The noise level enters every block as scale and shift after its
second normalisation, through an embedding of ln(sigma) / 4 (Dhariwal and Nichol 2021, arXiv
2105.05233); a class label is added to that embedding.

Every sample is treated alone, and all operations are smooth: guidance is a gradient, the KL
objective differentiates it by the weights, likelihoods differentiate it by x.

R networks run as one, by convolutions in R groups: maps have shape (N, R C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, group_norm, silu, softmax

NOISE_FEATURES = 3  # ln(sigma) / 4, sin(ln sigma), cos(ln sigma)
EMBEDDING_FACTOR = 4  # units of the embedding per base channel
LOWEST_SIDE = 4
CHANNELS_PER_GROUP = 4  # at least: a channel alone in its group would lose its mean


@dataclass(frozen=True, kw_only=True)
class ConvShape:
    """Size of a network.

    Attributes:
        image: shape (C, H, W) of the input, an image or the feature map of a trunk.
        width: channels of the first level; the others have twice as many.
        depth: residual blocks per level.
        attention: self-attention over the pixels of the last level.
        num_classes: number of classes; 0: unconditional.
    """

    image: tuple[int, int, int]
    width: int
    depth: int
    attention: bool = False
    num_classes: int = 0

    def __post_init__(self) -> None:
        if self.attention and math.prod(self.sides[-1]) == 1:
            raise ValueError(
                f"attention needs more than one pixel at the last level, but {self.image} has "
                "one; set attention: false"
            )

    @cached_property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level."""
        sides = [self.image[1:]]
        while max(sides[-1]) > LOWEST_SIDE:
            height, width = sides[-1]
            sides.append((-(-height // 2), -(-width // 2)))
        return tuple(sides)

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Channels of every block, the finest level first."""
        last = len(self.sides) - 1
        return (self.width,) * self.depth + (2 * self.width,) * (self.depth * last)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name; weights are (out, in, ...)."""
        embedding = EMBEDDING_FACTOR * self.width
        sizes: dict[str, tuple[int, ...]] = {
            "embed.0.weight": (embedding, NOISE_FEATURES),
            "embed.0.bias": (embedding,),
            "embed.1.weight": (embedding, embedding),
            "embed.1.bias": (embedding,),
        }
        if self.num_classes:
            sizes["label.weight"] = (embedding, self.num_classes)
        sizes["stem.weight"] = (self.width, self.image[0], 3, 3)
        sizes["stem.bias"] = (self.width,)
        for block, (old, new) in enumerate(pairwise((self.width, *self.channels))):
            sizes |= _block_sizes(f"block.{block}", old, new, embedding)
        last = self.channels[-1]
        if self.attention:
            sizes |= {f"attention.norm.{kind}": (last,) for kind in ("weight", "bias")}
            # without bias: that of the keys would cancel in the softmax
            sizes["attention.qkv.weight"] = (3 * last, last, 1, 1)
            sizes["attention.out.weight"] = (last, last, 1, 1)
            sizes["attention.out.bias"] = (last,)
        sizes |= {f"out.norm.{kind}": (last,) for kind in ("weight", "bias")}
        return sizes | {"out.weight": (1, last), "out.bias": (1,)}


def _block_sizes(name: str, old: int, new: int, embedding: int) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {
        f"{name}.norm.weight": (old,),
        f"{name}.norm.bias": (old,),
        f"{name}.conv.0.weight": (new, old, 3, 3),
        f"{name}.conv.0.bias": (new,),
        f"{name}.affine.weight": (2 * new, embedding),
        f"{name}.affine.bias": (2 * new,),
        f"{name}.conv.1.weight": (new, new, 3, 3),
        f"{name}.conv.1.bias": (new,),
    }
    return sizes if old == new else sizes | {f"{name}.skip.weight": (new, old, 1, 1)}


@dataclass(frozen=True)
class Forward:
    """Forward pass of R networks on maps.

    Attributes:
        shape: size of a network.
        parameters: by the names of ``shape.sizes``, with a leading dimension R.
    """

    shape: ConvShape
    parameters: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """Number R of networks."""
        return len(self.parameters["stem.weight"])

    def __call__(
        self,
        maps: Float[Tensor, "R N C H W"],
        sigma: Float[Tensor, "R N"],
        labels: Int64[Tensor, "R N"] | None,
        masks: Sequence[Tensor],
    ) -> Float[Tensor, "R N"]:
        """Return the logits, shape (R, N).

        Args:
            maps: shape (R, N, C, H, W).
            sigma: shape (R, N).
            labels: classes, int64, shape (R, N), -1 for no class; None: no row has one.
            masks: dropout masks of every block, shape (R, N, channels) each; empty: no dropout.
        """
        embedding = self._embed(sigma, labels)
        h = self._conv("stem", maps.transpose(0, 1).flatten(1, 2))
        for block in range(len(self.shape.channels)):
            if block and block % self.shape.depth == 0:
                h = avg_pool2d(h, 2, ceil_mode=True)
            h = self._block(f"block.{block}", h, embedding, masks[block] if masks else None)
        if self.shape.attention:
            h = self._attend(h)
        pooled = silu(self._norm("out.norm", h)).mean((2, 3))
        return self._linear("out", self._by_member(pooled))[..., 0]

    def _embed(self, sigma: Tensor, labels: Tensor | None) -> Tensor:
        log_sigma = sigma.log()
        features = torch.stack([log_sigma / 4, log_sigma.sin(), log_sigma.cos()], -1)
        embedding = self._linear("embed.1", silu(self._linear("embed.0", features)))
        if labels is not None:
            columns = torch.arange(self.shape.num_classes, device=labels.device)
            one_hot = (labels[..., None] == columns).to(embedding)  # zeros for -1
            embedding = embedding + one_hot @ self.parameters["label.weight"].mT
        return silu(embedding)

    def _block(self, name: str, h: Tensor, embedding: Tensor, mask: Tensor | None) -> Tensor:
        branch = self._conv(f"{name}.conv.0", silu(self._norm(f"{name}.norm", h)))
        scale, shift = self._linear(f"{name}.affine", embedding).chunk(2, -1)  # (R, N, channels)
        branch = group_norm(branch, self.count * _groups(scale.shape[-1]))
        branch = silu(torch.addcmul(_per_pixel(shift), branch, 1 + _per_pixel(scale)))
        if mask is not None:
            branch = branch * _per_pixel(mask)
        branch = self._conv(f"{name}.conv.1", branch)
        skip = self._conv(f"{name}.skip", h) if f"{name}.skip.weight" in self.parameters else h
        return (skip + branch) * math.sqrt(0.5)

    def _attend(self, h: Tensor) -> Tensor:
        """Apply self-attention (Vaswani et al. 2017) over the pixels, with one head."""
        qkv = self._conv("attention.qkv", self._norm("attention.norm", h)).flatten(2)
        q, k, v = qkv.unflatten(1, (self.count, 3, -1)).unbind(2)  # (N, R, channels, pixels)
        weights = softmax(q.mT @ k / math.sqrt(q.shape[2]), -1)  # (N, R, pixels, pixels)
        out = (v @ weights.mT).reshape_as(h)
        return (h + self._conv("attention.out", out)) * math.sqrt(0.5)

    def _conv(self, name: str, h: Tensor) -> Tensor:
        weight = self.parameters[f"{name}.weight"]
        bias = self.parameters.get(f"{name}.bias")
        out: Tensor = conv2d(
            h,
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            padding=weight.shape[-1] // 2,
            groups=self.count,
        )
        return out

    def _linear(self, name: str, a: Tensor) -> Tensor:
        """Apply a linear layer, (R, N, in) -> (R, N, out)."""
        bias = self.parameters[f"{name}.bias"][:, None]
        return torch.baddbmm(bias, a, self.parameters[f"{name}.weight"].mT)

    def _norm(self, name: str, h: Tensor) -> Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        groups = self.count * _groups(weight.shape[1])
        normalised: Tensor = group_norm(h, groups, weight.flatten(), bias.flatten())
        return normalised

    def _by_member(self, a: Tensor) -> Tensor:
        return a.reshape(len(a), self.count, -1).transpose(0, 1)


def _per_pixel(a: Tensor) -> Tensor:
    """Reshape (R, N, channels) to (N, R channels, 1, 1)."""
    return a.transpose(0, 1).flatten(1)[..., None, None]


def _groups(channels: int) -> int:
    return max(1, min(32, channels // CHANNELS_PER_GROUP))


def min_weights(dimension: int, width: int, depth: int) -> int:
    """Return a lower bound of the number of weights: those of the convolutions."""
    del dimension  # the convolutions do not depend on it
    return 16 * width**2 + 9 * width**2 * (depth - 1)

r"""Ensembles of convolutional discriminators, on images or on the feature maps of a frozen trunk.

An image x of d = C H W values is scaled by 1 / sqrt(sigma^2 + sigma_data^2), EDM's input scaling
(Karras et al. 2022, Table 1), and encoded to one logit; ``dgray.discriminator.conv_network`` is
the encoder. Derivatives in x are automatic. Where nothing is trained, rows are taken a block at a
time, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgray.diffusion.denoiser import AutogradDenoiser
from dgray.discriminator.conv_network import ConvShape, Forward
from dgray.discriminator.trunk import Trunk

BLOCK_ELEMENTS = 2**22  # numbers in one activation of a block of rows


@dataclass(frozen=True)
class ConvNet:
    """One network, or R networks whose parameters carry a leading dimension R.

    Attributes:
        shape: size of a network.
        parameters: by the names of ``ConvShape.sizes``.
        sigma_data: scale of the data, > 0.
        trunk: what turns x into the maps that the networks see; None: x is such a map, scaled.
        labels: class of every row, int64, of a shape that broadcasts to sigma's; -1: no class.
            None: of no row.
        masks: dropout of the channels of every block, shape (R, N, channels), or none.

    An ensemble takes x of shape (R, N, d) and sigma of shape (R, N), or (1, N, d) and (1, N) for
    all of them; a single network (..., d) and (...). Outputs have the dtype of x; the arithmetic
    is in that of the parameters. Equal in every member to the member alone, up to rounding.
    """

    shape: ConvShape
    parameters: Mapping[str, Tensor]
    sigma_data: float
    trunk: Trunk | None = None
    labels: Tensor | None = None
    masks: tuple[Tensor, ...] = ()

    @property
    def num_parameters(self) -> int:
        """Parameters of one network, without the trunk's."""
        return sum(math.prod(size) for size in self.shape.sizes.values())

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that is trained."""
        return tuple(self.parameters.values())

    def with_tensors(self, tensors: Sequence[Tensor]) -> ConvNet:
        """The same network with other ``tensors``."""
        return replace(self, parameters=dict(zip(self.parameters, tensors, strict=True)))

    def member(self, index: int) -> ConvNet:
        """One network of an ensemble, bound to no labels."""
        one = self.with_tensors([t[index] for t in self.tensors])
        return replace(one, labels=None, masks=())

    @property
    def num_classes(self) -> int:
        """See ``Conditional``."""
        return self.shape.num_classes

    def with_labels(self, labels: Tensor) -> ConvNet:
        """The same network told the class of every row.

        Raises:
            ValueError: if the network knows no classes, or not these.
        """
        count = self.shape.num_classes
        if not count:
            raise ValueError(
                "labels need a conditional discriminator, but this one knows no classes; set "
                "discriminator.conditional: true"
            )
        if labels.numel() and not (labels.min() >= -1 and labels.max() < count):
            raise ValueError(
                f"labels must be in 0..{count - 1}, or -1 for none, but got "
                f"{int(labels.min())}..{int(labels.max())}"
            )
        return replace(self, labels=labels)

    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> ConvNet:
        """The ensemble with fresh dropout masks, those of member r from generators[r] alone.

        Whole channels are dropped (Tompson et al. 2015, arXiv 1411.4280), before the last
        convolution of every block: neighbouring pixels say nearly the same.
        """
        masks = []
        for channels in self.shape.channels:
            uniform = [torch.rand(num_rows, channels, generator=g) for g in generators]
            kept = (torch.stack(uniform) >= probability).to(self.tensors[0])
            masks.append(kept / (1 - probability))
        return replace(self, masks=tuple(masks))

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """d(x; sigma) in nats, shape (...) of a single network, (R, N) of an ensemble."""
        (logit,) = self._by_blocks(_logit_of, x, sigma)
        return logit

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """grad_x d, of the shape of the logit with d; differentiable by the parameters."""
        (gradient,) = self._by_blocks(_gradient_of, x, sigma)
        return gradient

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """grad_x d, and the sum of second derivatives of the logit's shape; by no parameter.

        Exact by d backward passes, or Hutchinson's estimate by one for each of the ``probes``.
        """
        with torch.no_grad():
            gradient, laplacian = self._by_blocks(_gradient_and_laplacian_of, x, sigma, probes)
        return gradient, laplacian

    def logit_of_rows(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Logits (R, N) of an ensemble, of x (R, N, d) or (1, N, d), all rows at once."""
        count = len(self.tensors[0])
        maps = self._maps(x, sigma.to(self.tensors[0].dtype))
        maps = maps.expand(count, *maps.shape[1:])
        sigma = sigma.to(maps.dtype).expand(count, -1)
        labels = None if self.labels is None else self.labels.expand(count, sigma.shape[1])
        logit = Forward(self.shape, self.parameters)(maps, sigma, labels, self.masks)
        return logit.to(x.dtype)

    def _maps(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the networks see, of x (R, N, d): shape (R, N, C, H, W)."""
        if self.trunk is None:
            scale = (sigma**2 + self.sigma_data**2).rsqrt()[..., None]
            maps = x.to(scale.dtype) * scale
        else:
            maps = self.trunk(x.flatten(0, 1).to(sigma.dtype), sigma.flatten())
        return maps.to(sigma.dtype).reshape(*sigma.shape, *self.shape.image)

    def _by_blocks(
        self, function: _OfRows, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """A function of an ensemble and its rows, in the layout of x."""
        if self.parameters["out.bias"].ndim == 1:
            dimension = x.shape[-1]
            alone = self.with_tensors([t[None] for t in self.tensors])
            if self.labels is not None:
                alone = replace(alone, labels=self.labels.expand_as(sigma).reshape(1, -1))
            if probes is not None:
                probes = probes.reshape(len(probes), 1, -1, dimension)
            rows = (x.reshape(1, -1, dimension), sigma.reshape(1, -1), probes)
            found = alone._by_blocks(function, *rows)
            return tuple(t.reshape((*sigma.shape, *t.shape[2:])) for t in found)
        if torch.is_grad_enabled():
            return function(self, x, sigma, probes)
        blocks = []
        size = self._block_size
        for start in range(0, max(1, sigma.shape[1]), size):
            cut = slice(start, start + size)
            some = None if probes is None else probes[:, :, cut]
            blocks.append(function(self._cut(cut), x[:, cut], sigma[:, cut], some))
        return tuple(torch.cat(parts, 1) for parts in zip(*blocks, strict=True))

    def _cut(self, cut: slice) -> ConvNet:
        """The ensemble for some of the rows that it is bound to."""
        labels = self.labels
        if labels is not None and labels.ndim == 2 and labels.shape[1] > 1:
            labels = labels[:, cut]
        return replace(self, labels=labels, masks=tuple(mask[:, cut] for mask in self.masks))

    @property
    def _block_size(self) -> int:
        largest = self.shape.width * math.prod(self.shape.image[1:])
        if self.trunk is not None:
            largest = max(largest, self.trunk.activation_size)
        return max(1, BLOCK_ELEMENTS // (largest * len(self.tensors[0])))


_OfRows = Callable[[ConvNet, Tensor, Tensor, Tensor | None], tuple[Tensor, ...]]
"""(ensemble, x (R or 1, N, d), sigma (R or 1, N), probes) -> tensors (R, N, ...)."""


def _logit_of(net: ConvNet, x: Tensor, sigma: Tensor, probes: Tensor | None) -> tuple[Tensor]:
    del probes
    return (net.logit_of_rows(x, sigma),)


def _gradient_of(net: ConvNet, x: Tensor, sigma: Tensor, probes: Tensor | None) -> tuple[Tensor]:
    """A graph is kept where the caller's gradients are on; a row that is shared is read once."""
    del probes
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        logit = net.logit_of_rows(x, sigma)
        parts = logit.sum(1) if len(logit) > len(x) else logit.sum()[None]
        gradients = [
            torch.autograd.grad(part, x, create_graph=keep, retain_graph=True)[0] for part in parts
        ]
    return (torch.cat(gradients),)


def _gradient_and_laplacian_of(
    net: ConvNet, x: Tensor, sigma: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The Laplacian is the divergence of the gradient."""
    count = len(net.tensors[0])
    x, sigma = x.expand(count, -1, -1), sigma.expand(count, -1)
    field = AutogradDenoiser(lambda x, sigma: _gradient_of(net, x, sigma, None)[0])
    return field.with_divergence(x, sigma, probes)


def initialise_conv(
    shape: ConvShape,
    sigma_data: float,
    generators: Sequence[torch.Generator],
    *,
    trunk: Trunk | None = None,
) -> ConvNet:
    """A fresh float32 ensemble, member r drawn from generators[r] alone.

    Weights have variance 1 / fan-in, normalisations start as such, and the last layer starts at
    zero, so that guidance starts at zero.

    Raises:
        ValueError: if ``shape.image`` is not the trunk's.
    """
    if trunk is not None and trunk.shape != shape.image:
        raise ValueError(
            f"the networks must look at the trunk's maps, but got {shape.image} for maps of "
            f"{trunk.shape}"
        )
    parameters = {}
    for name, size in shape.sizes.items():
        if len(size) > 1 and not name.startswith("out."):
            std = 1 / math.sqrt(1 if name == "label.weight" else math.prod(size[1:]))
            draws = [torch.randn(size, generator=g) * std for g in generators]
        else:
            value = float("norm.weight" in name)
            draws = [torch.full(size, value) for _ in generators]
        parameters[name] = torch.stack(draws)
    return ConvNet(shape, parameters, sigma_data, trunk)

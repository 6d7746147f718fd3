"""Ensembles whose derivatives in x are computed by automatic differentiation.

Where nothing is trained, rows are processed in blocks, so that memory does not grow with their
number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import AutogradDenoiser, check_labels
from dgray.discriminator.discriminator import Ensemble, RowProbes, Rows, RowScalars

BLOCK_ELEMENTS = 2**22  # numbers in the largest activation of a block of rows


@dataclass(frozen=True, kw_only=True)
class AutogradEnsemble(Ensemble, ABC):
    """R networks whose parameters carry a leading dimension R, or one of them.

    A subclass defines the logits of all rows at once (``logit_of_rows``); this class adds their
    derivatives. An ensemble takes x of shape (R, N, d) and sigma of shape (R, N), or (1, N, d) and
    (1, N) for rows that all members share; a single network takes (..., d) and (...). Outputs have
    the dtype of x; the arithmetic is in the dtype of the parameters. Every member equals the
    member alone up to rounding.

    Attributes:
        parameters: trained tensors by name.
        labels: class of every row, int64, of a shape that broadcasts to that of sigma; -1: no
            class. None: no row has one.
        masks: dropout masks, shape (R, N, ...) each; empty: no dropout.
        is_member: whether this is a single network.
    """

    parameters: Mapping[str, Tensor]
    labels: Tensor | None = None
    masks: tuple[Tensor, ...] = ()
    is_member: bool = False

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of classes; 0: unconditional."""

    @property
    @abstractmethod
    def activation_size(self) -> int:
        """Numbers in the largest activation of one row; bounds the rows of a block."""

    @abstractmethod
    def logit_of_rows(
        self, x: Float[Tensor, "#R N d"], sigma: Float[Tensor, "#R N"]
    ) -> Float[Tensor, "#R N"]:
        """Return the logits (R, N) of an ensemble for x (R, N, d) or (1, N, d), all at once."""

    @property
    @override
    def num_parameters(self) -> int:
        parameters = self.tensors if self.is_member else [t[0] for t in self.tensors]
        return sum(t.numel() for t in parameters)

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.parameters.values())

    @override
    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        return replace(self, parameters=dict(zip(self.parameters, tensors, strict=True)))

    @override
    def member(self, index: int) -> Self:
        one = self._map_tensors(lambda tensor: tensor[index])
        return replace(one, labels=None, masks=(), is_member=True)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        return self.with_tensors([function(tensor) for tensor in self.tensors])

    def with_labels(self, labels: Tensor) -> Self:
        """Return the same ensemble, bound to the class of every row.

        Raises:
            ValueError: the ensemble is unconditional, or a label is not one of its classes.
        """
        count = self.num_classes
        if not count:
            raise ValueError(
                "labels need a conditional discriminator, but this one is unconditional; set "
                "discriminator.conditional: true"
            )
        check_labels(labels, count)
        return replace(self, labels=labels)

    @override
    def logit(self, x: Rows, sigma: RowScalars) -> RowScalars:
        (logit,) = self._by_blocks(_logit, x, sigma)
        return logit

    @override
    def gradient(self, x: Rows, sigma: RowScalars) -> Rows:
        (gradient,) = self._by_blocks(_gradient, x, sigma)
        return gradient

    @override
    def gradient_and_laplacian(
        self, x: Rows, sigma: RowScalars, probes: RowProbes | None = None
    ) -> tuple[Rows, RowScalars]:
        with torch.no_grad():
            gradient, laplacian = self._by_blocks(_gradient_and_laplacian, x, sigma, probes)
        return gradient, laplacian

    def _by_blocks(
        self, function: _RowFunction, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Apply a function of an ensemble and its rows block by block, in the layout of x."""
        if self.is_member:
            return self._as_ensemble_of_one(function, x, sigma, probes)
        if torch.is_grad_enabled():
            return function(self, x, sigma, probes)
        blocks = []
        size = max(1, BLOCK_ELEMENTS // (self.activation_size * len(self.tensors[0])))
        for start in range(0, max(1, sigma.shape[1]), size):
            rows = slice(start, start + size)
            some = None if probes is None else probes[:, :, rows]
            blocks.append(function(self._rows(rows), x[:, rows], sigma[:, rows], some))
        return tuple(torch.cat(parts, 1) for parts in zip(*blocks, strict=True))

    def _as_ensemble_of_one(
        self, function: _RowFunction, x: Tensor, sigma: Tensor, probes: Tensor | None
    ) -> tuple[Tensor, ...]:
        dimension = x.shape[-1]
        alone = replace(self._map_tensors(lambda tensor: tensor[None]), is_member=False)
        if self.labels is not None:
            alone = replace(alone, labels=self.labels.expand_as(sigma).reshape(1, -1))
        if probes is not None:
            probes = probes.reshape(len(probes), 1, -1, dimension)
        outputs = alone._by_blocks(
            function, x.reshape(1, -1, dimension), sigma.reshape(1, -1), probes
        )
        return tuple(t.reshape((*sigma.shape, *t.shape[2:])) for t in outputs)

    def _rows(self, rows: slice) -> Self:
        """Return the ensemble bound to the labels and masks of some rows."""
        labels = self.labels
        if labels is not None and labels.ndim == 2 and labels.shape[1] > 1:
            labels = labels[:, rows]
        return replace(self, labels=labels, masks=tuple(mask[:, rows] for mask in self.masks))


_RowFunction = Callable[[AutogradEnsemble, Tensor, Tensor, Tensor | None], tuple[Tensor, ...]]
"""(ensemble, x (R or 1, N, d), sigma (R or 1, N), probes) -> tensors (R, N, ...)."""


def _logit(
    ensemble: AutogradEnsemble, x: Tensor, sigma: Tensor, probes: Tensor | None
) -> tuple[Tensor]:
    del probes
    return (ensemble.logit_of_rows(x, sigma),)


def _gradient(
    ensemble: AutogradEnsemble, x: Tensor, sigma: Tensor, probes: Tensor | None
) -> tuple[Tensor]:
    """Gradient in x, with a graph if gradients are enabled; shared rows are evaluated once."""
    del probes
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        logit = ensemble.logit_of_rows(x, sigma)
        parts = list(logit.sum(1)) if len(logit) > len(x) else [logit.sum()]
        last = parts[-1]
        gradients = [
            torch.autograd.grad(
                part, x, create_graph=create_graph, retain_graph=create_graph or part is not last
            )[0]
            for part in parts
        ]
    return (torch.cat(gradients),)


def _gradient_and_laplacian(
    ensemble: AutogradEnsemble, x: Tensor, sigma: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradient and its divergence: d backward passes, or one for each probe."""
    count = len(ensemble.tensors[0])
    x, sigma = x.expand(count, -1, -1), sigma.expand(count, -1)
    field = AutogradDenoiser(lambda x, sigma: _gradient(ensemble, x, sigma, None)[0])
    return field.with_divergence(x, sigma, probes)

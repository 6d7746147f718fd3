"""Ensembles of a user's own discriminator, a ``torch.nn.Module``.

The module is called as ``module(x, sigma)``, or ``module(x, sigma, labels)`` if it is conditional,
and returns the logit of each row:

    x: noisy samples x0 + sigma n, unscaled, shape (N, d) or (N, C, H, W);
    sigma: noise levels, shape (N,), > 0;
    labels: classes, int64, shape (N,), -1 for no class;
    logit: estimate of log p_data - log p_model, shape (N,).

It must treat every row alone and be twice differentiable in x. It runs in evaluation mode; its
``torch.nn.Dropout`` layers act in training, with the probability of the training schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from dgray.diffusion.noise import global_seed
from dgray.discriminator.autograd_ensemble import AutogradEnsemble
from dgray.discriminator.discriminator import Rows, RowScalars, draw_dropout_masks
from dgray.errors import DiscriminatorError

_ROW_TOLERANCE = 1e-3  # float32 results of one row alone and among others, relative
_CHANNEL_DROPOUT = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class ModuleFactory(Protocol):
    """Builder of one discriminator; initial weights come from torch's global generator."""

    def __call__(self, shape: tuple[int, ...], sigma_data: float, num_classes: int) -> nn.Module:
        """Return a module with initial weights.

        Args:
            shape: shape of a sample, (d,) or (C, H, W).
            sigma_data: scale of the data, > 0.
            num_classes: 0: the module is called without labels.
        """
        ...


@dataclass(frozen=True)
class ModuleTraits:
    """Structure of a module and what a call on two rows has shown about it.

    Attributes:
        module: in evaluation mode; its own tensors are not used.
        shape: shape of a sample, (d,) or (C, H, W).
        num_classes: 0: unconditional.
        mask_shapes: shape of the dropout mask of one row, by name of the buffer.
        activation_size: numbers in the largest output of a layer for one row.
        is_vectorised: whether ``torch.func.vmap`` can run R of them as one.
    """

    module: nn.Module
    shape: tuple[int, ...]
    num_classes: int
    mask_shapes: Mapping[str, tuple[int, ...]]
    activation_size: int
    is_vectorised: bool


@dataclass(frozen=True, kw_only=True)
class ModuleEnsemble(AutogradEnsemble):
    """Ensemble of R copies of one module.

    Attributes:
        traits: traits of the module.
        constants: buffers and frozen parameters by name, leading dimension R.
    """

    traits: ModuleTraits
    constants: Mapping[str, Tensor]

    @property
    @override
    def num_classes(self) -> int:
        return self.traits.num_classes

    @property
    @override
    def activation_size(self) -> int:
        return self.traits.activation_size

    @override
    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        device = tensors[0].device
        constants = {name: tensor.to(device) for name, tensor in self.constants.items()}
        return replace(super().with_tensors(tensors), constants=constants)

    @override
    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        constants = {name: function(tensor) for name, tensor in self.constants.items()}
        return replace(super()._map_tensors(function), constants=constants)

    @override
    def gradient(self, x: Rows, sigma: RowScalars) -> Rows:
        if not self.is_member:  # one backward pass for all members, on rows of their own
            count = len(self.tensors[0])
            x, sigma = x.expand(count, -1, -1), sigma.expand(count, -1)
        return super().gradient(x, sigma)

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Self:
        """Drop units at every ``torch.nn.Dropout`` layer.

        Raises:
            DiscriminatorError: the module has no such layer.
        """
        if not self.traits.mask_shapes:
            raise DiscriminatorError(
                f"fit.dropout must be 0 for a discriminator without torch.nn.Dropout layers, but "
                f"it is {probability:g}; set it to 0 or add such layers to the module"
            )
        shapes = [(num_rows, *shape) for shape in self.traits.mask_shapes.values()]
        masks = draw_dropout_masks(probability, generators, shapes, self.tensors[0])
        return replace(self, masks=masks)

    @override
    def logit_of_rows(
        self, x: Float[Tensor, "#R N d"], sigma: Float[Tensor, "#R N"]
    ) -> Float[Tensor, "#R N"]:
        count, dtype = len(self.tensors[0]), self.tensors[0].dtype
        samples = x.to(dtype).expand(count, -1, -1).unflatten(-1, self.traits.shape)
        arguments = [samples, sigma.to(dtype).expand(count, -1)]
        if self.num_classes:
            labels = torch.tensor(-1, device=x.device) if self.labels is None else self.labels
            arguments.append(labels.expand(samples.shape[:2]))
        masks = dict(zip(self.traits.mask_shapes, self.masks, strict=True)) if self.masks else {}
        state = {**self.parameters, **self.constants, **masks}
        if self.traits.is_vectorised:
            logit: Tensor = vmap(self._call)(state, *arguments)
        else:
            members = (
                self._call({name: t[r] for name, t in state.items()}, *(a[r] for a in arguments))
                for r in range(count)
            )
            logit = torch.stack(list(members))
        return logit.to(x.dtype)

    def _call(self, state: dict[str, Tensor], *arguments: Tensor) -> Tensor:
        logit: Tensor = functional_call(self.traits.module, state, arguments)
        return logit


def build_module_ensemble(
    factory: ModuleFactory,
    generators: Sequence[torch.Generator],
    *,
    shape: tuple[int, ...],
    sigma_data: float,
    num_classes: int = 0,
) -> ModuleEnsemble:
    """Build R modules and stack them, on the CPU.

    Args:
        factory: called R times, with torch's global generator seeded by the seed of a generator.
        generators: one for each member.
        shape: shape of a sample, (d,) or (C, H, W).
        sigma_data: scale of the data, > 0.
        num_classes: 0: unconditional.

    Raises:
        DiscriminatorError: the factory does not return a module that can be a discriminator.
    """
    modules = []
    for generator in generators:
        with global_seed(generator.initial_seed()):
            modules.append(factory(shape, sigma_data, num_classes))
    for module in modules:
        _check_module(module)
        _mask_dropout(module.eval())
    parameters, constants = _stack(modules)
    traits = _probe(modules[0], shape, sigma_data, num_classes)
    ensemble = ModuleEnsemble(traits=traits, parameters=parameters, constants=constants)
    return replace(ensemble, traits=replace(traits, is_vectorised=_can_vectorise(ensemble)))


class _MaskedDropout(nn.Module):
    """Dropout by a mask that is passed as a buffer."""

    mask: Tensor

    def __init__(self, drops_channels: bool) -> None:
        super().__init__()
        self.drops_channels = drops_channels
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the mask."""
        return x * self.mask


def _mask_dropout(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, (nn.Dropout, *_CHANNEL_DROPOUT)):
            setattr(module, name, _MaskedDropout(isinstance(child, _CHANNEL_DROPOUT)))
        else:
            _mask_dropout(child)


def _check_module(module: object) -> None:
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise DiscriminatorError(
            "the factory of a discriminator must return a torch.nn.Module that is not "
            f"TorchScript, but returned {type(module).__name__}"
        )
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise DiscriminatorError(
                f"a discriminator must treat every row alone, but its layer {name!r} is a "
                f"{type(layer).__name__}; use torch.nn.GroupNorm or torch.nn.LayerNorm"
            )


def _stack(modules: Sequence[nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the trained tensors and the constants of all modules, leading dimension R."""
    states = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in modules]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise DiscriminatorError(
            "the factory of a discriminator must return modules of one architecture, but names or "
            "shapes of their parameters differ"
        )
    parameters, constants = {}, {}
    for name, first in states[0].items():
        tensors = [state[name].detach() for state in states]
        if first.requires_grad:
            parameters[name] = torch.stack(tensors)
        elif all(torch.equal(first, tensor) for tensor in tensors):
            constants[name] = first.detach().expand(len(tensors), *first.shape)  # no copies
        else:
            constants[name] = torch.stack(tensors)
    if not parameters:
        raise DiscriminatorError("a discriminator must have parameters that require gradients")
    return parameters, constants


def _probe(
    module: nn.Module, shape: tuple[int, ...], sigma_data: float, num_classes: int
) -> ModuleTraits:
    """Call the module on two rows and check the rules of this file's docstring."""
    generator = torch.Generator().manual_seed(0)
    x = (sigma_data * torch.randn(2, *shape, generator=generator)).requires_grad_()
    arguments = [x, sigma_data * torch.tensor([0.5, 2.0])]
    if num_classes:
        arguments.append(torch.tensor([-1, 0]))
    sizes: list[int] = [x[0].numel()]
    mask_shapes: dict[str, tuple[int, ...]] = {}

    def observe(name: str, layer: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 0:
            sizes.append(output.numel() // len(output))
            if isinstance(layer, _MaskedDropout):
                row = tuple(output.shape[1:])
                is_whole = not layer.drops_channels
                mask_shapes[f"{name}.mask"] = row if is_whole else (row[0], *[1] * len(row[1:]))

    handles = [
        layer.register_forward_hook(
            lambda layer, _, output, name=name: observe(name, layer, output)
        )
        for name, layer in module.named_modules()
    ]
    try:
        with torch.enable_grad():
            logit = module(*arguments)
    except (RuntimeError, TypeError) as error:
        names = "x, sigma, labels" if num_classes else "x, sigma"
        raise DiscriminatorError(
            f"a discriminator must accept ({names}) with x of shape {tuple(x.shape)} and sigma of "
            f"shape (2,), but its call failed: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    _check_logit(module, arguments, logit)
    return ModuleTraits(module, shape, num_classes, mask_shapes, max(sizes), False)


def _check_logit(module: nn.Module, arguments: Sequence[Tensor], logit: object) -> None:
    if not isinstance(logit, Tensor) or logit.shape != (2,):
        result = tuple(logit.shape) if isinstance(logit, Tensor) else type(logit).__name__
        raise DiscriminatorError(
            f"a discriminator must return one logit per row, shape (N,), but for two rows it "
            f"returned {result}; squeeze the last dimension"
        )
    with torch.no_grad():
        alone = module(*(argument[:1] for argument in arguments))
    first, first_alone = float(logit[0].detach()), float(alone[0])
    if not abs(first - first_alone) <= _ROW_TOLERANCE * max(1.0, abs(first)):
        raise DiscriminatorError(
            f"a discriminator must treat every row alone and be deterministic, but the logit of a "
            f"row is {first:g} beside another row and {first_alone:g} alone"
        )
    x = arguments[0]
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
            if gradient.requires_grad:  # else the logit is linear in x
                # unlike grad(), this reaches operations that can be differentiated only once
                (gradient**2).sum().backward()
    except RuntimeError as error:
        raise DiscriminatorError(
            "a discriminator must be twice differentiable in x, since guidance is a gradient and "
            f"the KL objective differentiates it, but torch reports: {error}"
        ) from error
    finally:
        module.zero_grad()


@torch.no_grad()
def _can_vectorise(ensemble: ModuleEnsemble) -> bool:
    """Return whether the ensemble runs under ``vmap``; loops over its members work always."""
    trial = replace(ensemble, traits=replace(ensemble.traits, is_vectorised=True))
    dimension = torch.Size(ensemble.traits.shape).numel()
    x, sigma = torch.zeros(1, 2, dimension), torch.ones(1, 2)
    try:
        trial.logit_of_rows(x, sigma)
    except RuntimeError:
        return False
    return True

"""Arguments of users: samples, noise levels, classes, seeds and pairs of numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dgray.errors import GuidedModelError, one_line

IMAGE_AXES = 3  # C, H, W
MAX_SCALED = 2.0  # images in [-1, 1] may exceed 1 a little; larger values are pixels
TensorLike = Tensor | np.ndarray  # what users have
Levels = TensorLike | Sequence[float] | float  # noise levels, or one of all samples
Labels = TensorLike | Sequence[int] | int  # classes, or one of all samples
# Types with few operations in torch.
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def tensor_of(name: str, values: object, dtype: torch.dtype | None = None) -> Tensor:
    """Return real numbers of a user as a dense tensor.

    Args:
        name: name of the argument.
        values: tensor, array, data frame, or nested lists.
        dtype: type of the tensor; None: that of the values.

    Raises:
        GuidedModelError: they are no real numbers.
    """
    tensor = _tensor(values)
    if tensor is None or not _is_real(tensor):
        kind = type(values).__name__
        if tensor is not None:
            kind = f"{kind} of {tensor.dtype}, {tensor.layout}"
        raise GuidedModelError(
            f"{name} must be real numbers in a dense tensor, an array or lists, but got a {kind}"
        )
    if dtype is not None and not isinstance(values, Tensor):
        tensor = _tensor(values, dtype)  # numbers of Python in full precision
        assert tensor is not None
    return tensor.to(dtype or _WIDER.get(tensor.dtype, tensor.dtype))


def _tensor(values: object, dtype: torch.dtype | None = None) -> Tensor | None:
    # Arrays of a GPU have another interface, which torch reads.
    is_on_host = hasattr(values, "__array__") and not hasattr(values, "__cuda_array_interface__")
    try:
        if is_on_host and not isinstance(values, Tensor):  # NumPy, pandas
            array = np.asarray(values)
            if array.dtype == object:
                array = np.array(array.tolist())
            native = array.dtype.newbyteorder("=")
            if native == np.longdouble:
                native = np.dtype(np.float64)
            # torch takes neither negative strides nor foreign byte orders.
            values = np.require(array, native, ["C_CONTIGUOUS", "WRITEABLE", "ENSUREARRAY"])
        return torch.as_tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_real(values: Tensor) -> bool:
    is_dense = values.layout == torch.strided and not values.is_quantized
    return is_dense and not values.is_complex() and values.dtype != torch.bool


def check_scaled(samples: Tensor) -> None:
    """Check that images without noise are bytes or scaled.

    Raises:
        GuidedModelError: they are numbers that look like pixels from 0 to 255.
    """
    if samples.ndim != IMAGE_AXES + 1 or samples.dtype == torch.uint8 or not samples.numel():
        return
    if float(samples.min()) >= 0 and float(samples.max()) > MAX_SCALED:
        raise GuidedModelError(
            "images must be bytes or numbers in [-1, 1], but the largest value is "
            f"{float(samples.max()):g}; divide by 127.5 and subtract 1, or convert to uint8"
        )


def is_readable(values: Tensor) -> bool:
    """Return False on an accelerator, where each reading of a value would wait for it."""
    return values.device.type == "cpu"


def checked_labels(labels: Labels, count: int, num_classes: int, *, lowest: int) -> Tensor:
    """Return the class of each of ``count`` samples, int64 (count,).

    Args:
        labels: classes (count,), or one for all samples.
        count: number of samples.
        num_classes: number of classes; 0: any.
        lowest: 0, or -1 if a sample can have no class.

    Raises:
        GuidedModelError: the labels have another type or shape, or one is no class.
    """
    classes = _tensor(labels)
    if classes is None:
        raise GuidedModelError(
            f"labels must be classes, integers of shape ({count},), but got "
            f"{one_line(repr(labels), 60)}"
        )
    is_integer = not classes.is_floating_point() and _is_real(classes)
    if not is_integer or classes.shape not in ((), (count,)):
        raise GuidedModelError(
            f"labels must be classes, integers of shape ({count},) or one for all samples, but "
            f"got {classes.dtype} of shape {tuple(classes.shape)}"
        )
    classes = classes.long().expand(count)
    is_wrong = (classes < lowest) | (classes >= (num_classes or math.inf))
    if is_readable(classes) and bool(is_wrong.any()):
        wrong = classes[is_wrong]
        span = f"from 0 to {num_classes - 1}" if num_classes else "0, 1, ..."
        none = ", or -1 for none" if lowest < 0 else ""
        raise GuidedModelError(
            f"labels must be classes {span}{none}, but one is {int(wrong[0])}; choose a "
            "class of the model"
        )
    return classes


def checked_seed(seed: object) -> int:
    """Return a seed, which may be an integer of NumPy or torch, as one of Python.

    Raises:
        GuidedModelError: it is no integer >= 0.
    """
    try:
        number = int(operator.index(seed))  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise GuidedModelError(f"seed must be an integer >= 0, but got {one_line(repr(seed), 60)}")
    return number


def checked_integer(name: str, value: object, lowest: int | None = None) -> int:
    """Return an integer of Python, NumPy or torch.

    Raises:
        GuidedModelError: it is none, or below ``lowest``.
    """
    try:
        number = int(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        raise GuidedModelError(
            f"{name} must be an integer, but got {one_line(repr(value), 60)}"
        ) from None
    if lowest is not None and number < lowest:
        raise GuidedModelError(f"{name} must be at least {lowest}, but got {number}")
    return number


def checked_number(name: str, value: object) -> float:
    """Return a number of Python, NumPy or torch as a float.

    Raises:
        GuidedModelError: it is none.
    """
    try:
        if isinstance(value, str | bytes | bytearray | np.complexfloating):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise GuidedModelError(
            f"{name} must be a number, but got {one_line(repr(value), 60)}"
        ) from None


def checked_pair(name: str, values: object) -> tuple[float, float]:
    """Return two numbers (low, high) as floats.

    Raises:
        GuidedModelError: they are not two numbers.
    """
    try:
        low, high = map(float, values)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise GuidedModelError(
            f"{name} must be two numbers (low, high), but got {one_line(str(values), 60)}"
        ) from None
    return low, high


def like(value: Tensor, x: Tensor) -> Tensor:
    """Return a value on the device and in the dtype of the samples; float32 for bytes."""
    return value.to(x.device, x.dtype if x.is_floating_point() else torch.float32)

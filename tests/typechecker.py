"""Run-time checker of annotated shapes, for ``jaxtyping.install_import_hook``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the annotations of ``function`` that have a shape; mypy checks all others.

    beartype cannot check protocols that are not ``runtime_checkable``, nor ``Self``.
    """
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)
    }
    return beartype(function, conf=BeartypeConf(is_pep484_tower=True))


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_has_shape(argument) for argument in get_args(hint))

"""Number of trials that fit on nodes, from their CPUs and GPUs, counted GPU by GPU as Ray does.

A trial is a group of bundles: its own, then one for each of its sampling actors, which are equal.
A bundle is placed on one node; a group is placed on one node if possible and on several otherwise,
like Ray's placement groups of strategy PACK. Imports no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Resources = Mapping[str, float]  # CPUs and GPUs of a node or bundle; other keys are ignored
_ROUNDING = 1e-6  # Ray counts in steps of 1e-4


@dataclass(frozen=True)
class _Free:
    """Free resources of a node."""

    cpus: float
    gpus: tuple[float, ...]  # free share of each GPU

    @classmethod
    def of(cls, node: Resources) -> _Free:
        return cls(node.get("CPU", 0.0), (1.0,) * int(node.get("GPU", 0.0)))

    def after(self, bundle: Resources) -> _Free | None:
        """Return what is free after ``bundle`` is placed here, or None if it does not fit."""
        cpus = self.cpus - bundle.get("CPU", 0.0)
        gpus = _gpus_after(self.gpus, bundle.get("GPU", 0.0))
        return None if cpus < -_ROUNDING or gpus is None else _Free(cpus, gpus)

    def after_all(self, bundles: Iterable[Resources]) -> _Free | None:
        """Return what is free after all ``bundles`` are placed here, or None."""
        left: _Free | None = self
        for bundle in bundles:
            left = left.after(bundle) if left is not None else None
        return left


def num_groups(nodes: Iterable[Resources], bundles: Sequence[Resources]) -> int:
    """Return how many groups of ``bundles`` fit on empty ``nodes`` at a time.

    The value is 0 if and only if no group fits; otherwise it may be below the optimum, since
    groups are placed greedily.

    Args:
        nodes: resources of each node.
        bundles: the first, which needs some CPU, then others that are equal to each other.
    """
    free, count = [_Free.of(node) for node in nodes], 0
    for index, node in enumerate(free):
        left: _Free | None = node
        while (left := left.after_all(bundles) if left is not None else None) is not None:
            free[index], count = left, count + 1
    while len(bundles) > 1 and (spread := _spread(free, bundles)) is not None:
        free, count = spread, count + 1
    return count


def _spread(free: Sequence[_Free], bundles: Sequence[Resources]) -> list[_Free] | None:
    """Return what is free after one group is spread over nodes, or None if it does not fit."""
    best: list[_Free] | None = None
    most = -1
    for index, node in enumerate(free):
        own = node.after(bundles[0])
        if own is None or node in free[:index]:
            continue
        left = _filled([*free[:index], own, *free[index + 1 :]], bundles[1:])
        if left is not None and (places := _num_places(left, bundles[1])) > most:
            best, most = left, places
    return best


def _filled(free: Sequence[_Free], bundles: Sequence[Resources]) -> list[_Free] | None:
    """Return what is free after each of these equal bundles is on the first node that fits."""
    left, index = list(free), 0
    for bundle in bundles:
        while index < len(left) and left[index].after(bundle) is None:
            index += 1
        after = left[index].after(bundle) if index < len(left) else None
        if after is None:
            return None
        left[index] = after
    return left


def _num_places(free: Sequence[_Free], bundle: Resources) -> int:
    places = 0
    for node in free:
        left: _Free | None = node
        while (left := left.after(bundle) if left is not None else None) is not None:
            places += 1
    return places


def _gpus_after(gpus: tuple[float, ...], amount: float) -> tuple[float, ...] | None:
    """Allocate whole GPUs, or a fraction of the fullest single GPU that has room for it."""
    if amount >= 1:
        count = math.ceil(amount - _ROUNDING)
        whole = [index for index, left in enumerate(gpus) if left >= 1][:count]
        if len(whole) < count:
            return None
        return tuple(0.0 if index in whole else left for index, left in enumerate(gpus))
    if amount == 0:
        return gpus
    roomy = [(left, index) for index, left in enumerate(gpus) if left >= amount - _ROUNDING]
    if not roomy:
        return None
    _, chosen = min(roomy)
    return tuple(left - amount * (index == chosen) for index, left in enumerate(gpus))


def describe_resources(resources: Resources) -> str:
    """Return for example ``4 CPU, 0.5 GPU``."""
    return ", ".join(f"{resources.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))


def describe_group(bundles: Sequence[Resources]) -> str:
    """Return a description of a group's request."""
    own = describe_resources(bundles[0])
    if len(bundles) == 1:
        return own
    actor = describe_resources(bundles[1])
    return f"{own} and, for each of its {len(bundles) - 1} sampling actors, {actor}"

"""How many trials fit on nodes: arithmetic on their CPUs and GPUs, GPU by GPU as Ray counts.

A trial is a group of bundles: its own, then one for each of its sampling actors, all alike. A
bundle lies on one node; a group may span several, but lies on one where it can, as Ray's placement
groups (strategy PACK) do. Knows numbers; not Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Resources = Mapping[str, float]  # CPU, GPU: amounts of a node or a bundle; others are ignored
_ROUNDING = 1e-6  # Ray counts in steps of 1e-4


@dataclass(frozen=True)
class _Free:
    """What is left of a node."""

    cpus: float
    gpus: tuple[float, ...]  # of each GPU, 1: untouched

    @classmethod
    def of(cls, node: Resources) -> _Free:
        return cls(node.get("CPU", 0.0), (1.0,) * int(node.get("GPU", 0.0)))

    def after(self, bundle: Resources) -> _Free | None:
        """What is left with ``bundle`` on it; None: it does not fit."""
        cpus = self.cpus - bundle.get("CPU", 0.0)
        gpus = _gpus_after(self.gpus, bundle.get("GPU", 0.0))
        return None if cpus < -_ROUNDING or gpus is None else _Free(cpus, gpus)

    def after_all(self, bundles: Iterable[Resources]) -> _Free | None:
        """Likewise with all of them."""
        left: _Free | None = self
        for bundle in bundles:
            left = left.after(bundle) if left is not None else None
        return left


def num_groups(nodes: Iterable[Resources], bundles: Sequence[Resources]) -> int:
    """How many groups of ``bundles`` empty ``nodes`` hold at a time.

    0 exactly if there is no place for one. ``bundles``: the first, then others that are all alike;
    the first asks for some CPU.
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
    """What is left with one group on several nodes; None: no place for it."""
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
    """What is left with each of these like bundles on the first node that holds it."""
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
    """Ray gives whole GPUs, or a fraction of a single one: the fullest that has room for it."""
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


def in_words(resources: Resources) -> str:
    """For example ``4 CPU, 0.5 GPU``."""
    return ", ".join(f"{resources.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))


def group_in_words(bundles: Sequence[Resources]) -> str:
    """What a group asks for."""
    words = in_words(bundles[0])
    if len(bundles) > 1:
        words += f" and, for each of its {len(bundles) - 1} sampling actors, "
        words += in_words(bundles[1])
    return words

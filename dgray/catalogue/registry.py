"""Registry of the specifications of one group: those of dgray and those of entry points."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Iterator
from functools import cached_property
from typing import Generic, TypeVar

from dgray.catalogue.spec import Spec

AnySpec = TypeVar("AnySpec", bound=Spec)


class Registry(Generic[AnySpec]):
    """Specifications of one group by name, in the order of their registration."""

    def __init__(self, group: str, *specs: AnySpec) -> None:
        self.group = group
        self.built_in = specs

    @cached_property
    def _specs(self) -> dict[str, AnySpec]:
        specs = {spec.name: spec for spec in self.built_in}
        for entry in importlib.metadata.entry_points(group=f"dgray.{self.group}"):
            spec: AnySpec = entry.load()
            if spec.name in specs:
                raise ValueError(
                    f"{entry.value}: the name {spec.name!r} is registered twice in "
                    f"dgray.{self.group}; rename one of the two"
                )
            specs[spec.name] = spec
        return specs

    def __iter__(self) -> Iterator[AnySpec]:
        return iter(self._specs.values())

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __getitem__(self, name: str) -> AnySpec:
        try:
            return self._specs[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._specs, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(self.names)}"
            raise KeyError(f"no {name!r} in dgray.{self.group}; {fix}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of registration."""
        return tuple(self._specs)

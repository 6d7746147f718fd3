"""Domains: ranges and choices of the fields that a search varies.

fit.learning_rate: {log_uniform: [1e-5, 1e-2]}
discriminator.width: {int: [8, 128], log: true}
fit.gamma: {uniform: [0, 2], when: {fit.objective: mixed}}
fit.objective: {choice: [kl, mixed]}
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dgray.config.model import MAX_COUNT
from dgray.config.reading.diagnostics import Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document

KINDS = ("log_uniform", "uniform", "int", "choice")
SECTIONS = ("correction", "discriminator", "fit", "evaluate")  # where a search may vary fields
_OPTIONS = {"int": ("log", "step"), "uniform": ("step",), "log_uniform": (), "choice": ()}
MAX_CHOICES = 1000
MAX_STEPS = MAX_COUNT  # between the ends of a domain
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Domain:
    """Possible values of one field.

    Attributes:
        path: path of the field.
        kind: ``uniform``, ``log_uniform``, ``int`` or ``choice``.
        low: least number.
        high: greatest number.
        choices: values of a ``choice``.
        is_log: whether numbers are drawn uniformly in their logarithm.
        step: numbers are low, low + step, ...; None: any between low and high.
        when: other fields, each with the values for which this one matters.
    """

    path: FieldPath
    kind: Literal["log_uniform", "uniform", "int", "choice"]
    low: float = 0
    high: float = 0
    choices: tuple[Value, ...] = ()
    is_log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Value, ...]] | None = None

    @property
    def name(self) -> str:
        """Dotted path of the field."""
        return dotted(self.path)

    @property
    def probes(self) -> tuple[Value, ...]:
        """Values at which the study is checked: both ends, or every choice."""
        if self.kind == "choice":
            return self.choices
        low, high = (int(v) if self.kind == "int" else v for v in (self.low, self.high))
        return (low, high) if low < high else (low,)

    def __str__(self) -> str:
        if self.kind == "choice":
            text = ", ".join(map(str, self.choices))
        else:
            text = f"{self.low:g} to {self.high:g}" + ", logarithmic" * self.is_log
        conditions = [
            f"{name} is {' or '.join(map(str, values))}"
            for name, values in (self.when or {}).items()
        ]
        return f"{text} where {' and '.join(conditions)}" if conditions else text

    @property
    def middle(self) -> Value:
        """Value at which costs are estimated."""
        if self.kind == "choice":
            return self.choices[len(self.choices) // 2]
        centre = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        if self.step is not None:
            centre = self.low + self.step * round((centre - self.low) / self.step)
        return round(centre) if self.kind == "int" else centre


def is_domain(value: object) -> bool:
    """Return True if a value is meant as a domain."""
    return isinstance(value, dict) and any(kind in value for kind in KINDS)


def take_domains(document: Document) -> tuple[Document, dict[FieldPath, Domain], list[Diagnostic]]:
    """Return the study with each domain replaced by its probes, the domains, and diagnostics."""
    domains: dict[FieldPath, Domain] = {}
    diagnostics: list[Diagnostic] = []
    places = dict(document.places)

    def is_sound(value: Any, path: FieldPath) -> bool:
        """Return False for a broken domain; the field then has its default."""
        rule = _broken(value, path) if is_domain(value) else _misspelt(value)
        if rule is not None:
            diagnostics.append(Diagnostic(document.place(path), dotted(path), rule))
        return rule is None

    def replaced(value: Any, path: FieldPath) -> Any:
        if not isinstance(value, dict) or (path and path[-1] == "arguments"):
            return value
        if not is_domain(value):
            items = {(*path, name): item for name, item in value.items()}
            return {
                key[-1]: replaced(item, key) for key, item in items.items() if is_sound(item, key)
            }
        domains[path] = domain = _domain(value, path)
        for index in range(len(domain.probes)):
            places[*path, index] = document.place(path)
        return list(domain.probes)

    values = replaced(document.values, ())
    return Document(document.name, values, places), domains, diagnostics


def _misspelt(value: Any) -> str | None:
    """Return the problem of a domain whose kind is misspelt, if it is one."""
    if not isinstance(value, dict) or not value:
        return None
    word, values = next(iter(value.items()))
    near = difflib.get_close_matches(str(word), KINDS, n=1, cutoff=0.8)
    if not near or not isinstance(values, list):
        return None
    return f"unknown kind of domain {word!r}; did you mean {near[0]!r}?"


def _broken(value: dict[str, Any], path: FieldPath) -> str | None:
    """Return the problem of a domain, if it has one."""
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) > 1:
        return f"a domain has one kind, but got {' and '.join(kinds)}"
    if path[0] not in SECTIONS:
        return (
            f"a search varies fields of {', '.join(SECTIONS)}, but got one of '{path[0]}', whose "
            "values define different problems; make it a list, an axis"
        )
    if path[0] == "evaluate" and path[1:] != ("guidance_weight",):
        return (
            "of 'evaluate' a search varies guidance_weight alone, because the others change how "
            "points and the base are measured; make it a list"
        )
    (kind,) = kinds
    options = {kind, "when", *_OPTIONS[kind]}
    if unknown := [name for name in value if name not in options]:
        return f"unknown option {unknown[0]!r} of {kind}; choose from {', '.join(sorted(options))}"
    return _broken_values(kind, value)


def _broken_values(kind: str, value: dict[str, Any]) -> str | None:
    values = value[kind]
    when = value.get("when")
    if when is not None and not isinstance(when, dict):
        return f"when must be fields with values, like {{fit.objective: mixed}}, but got {when!r}"
    if kind == "choice":
        if not isinstance(values, list) or not values:
            return f"choice must be a list of values, but got {values!r}"
        if len(values) > MAX_CHOICES:
            return f"a choice must have at most {MAX_CHOICES} values, but got {len(values)}"
        if any(isinstance(item, dict | list) for item in values):
            return f"a choice must be of single values, not lists or mappings, but got {values!r}"
        return None
    is_pair = isinstance(values, list) and len(values) == 2 and len(_numbers(value)) == 2
    if not is_pair or not values[0] <= values[1]:
        return f"{kind} must be [low, high] with low <= high, but got {values!r}"
    if kind == "int" and not all(isinstance(v, int) and abs(v) <= MAX_COUNT for v in values):
        return f"int must have whole ends of at most {MAX_COUNT}, but got {values!r}"
    if not isinstance(value.get("log", False), bool):
        return f"log must be true or false, but got {value['log']!r}"
    is_log = kind == "log_uniform" or value.get("log", False)
    if is_log and values[0] <= 0:
        return f"a logarithmic domain must have low > 0, but got {values!r}"
    if value.get("log") and value.get("step"):
        return "log and step exclude each other; leave one out"
    return _broken_step(kind, value.get("step"), values[1] - values[0])


def _broken_step(kind: str, step: Any, width: float) -> str | None:
    if step is None:
        return None
    number = int if kind == "int" else int | float
    if isinstance(step, bool) or not isinstance(step, number) or not 0 < step < math.inf:
        return f"step must be {'a whole' if kind == 'int' else 'a'} number > 0, but got {step!r}"
    if width / step > MAX_STEPS:
        return f"step must be at least 1 / {MAX_STEPS:g} of the range, but got {step!r}"
    return None


def _numbers(value: dict[str, Any]) -> list[float]:
    """Return the finite numbers among the values of a domain."""
    values = next(value[kind] for kind in KINDS if kind in value)
    items = values if isinstance(values, list) else [values]
    return [
        item
        for item in items
        if isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
    ]


def _domain(value: dict[str, Any], path: FieldPath) -> Domain:
    (kind,) = (kind for kind in KINDS if kind in value)
    when = {
        name: tuple(values) if isinstance(values, list) else (values,)
        for name, values in value.get("when", {}).items()
    }
    if kind == "choice":
        return Domain(path, "choice", choices=tuple(value["choice"]), when=when)
    low, high = value[kind]
    return Domain(
        path,
        kind,  # type: ignore[arg-type]
        low=low,
        high=high,
        is_log=kind == "log_uniform" or bool(value.get("log", False)),
        step=value.get("step", 1 if kind == "int" and not value.get("log") else None),
        when=when,
    )

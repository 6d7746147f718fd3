"""Conversion of the errors of pydantic to broken rules: the rule, the value, the nearest name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from dgray.config.model import MAX_COUNT, MAX_SEED
from dgray.config.reading.diagnostics import FieldPath, dotted
from dgray.config.reading.schema import NEVER_AXES, all_fields, fields_at, kinds_at, nearest

_TYPE_RULES = {
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a section of fields",
    "dict_type": "must be a section of fields",
    "finite_number": "must be finite",
}
_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Broken rule at a path of the study, and the value or name that would repair it."""

    path: FieldPath
    rule: str
    error: str  # pydantic's type of error
    suggestion: str | None = None


def locate(location: Sequence[str | int], values: Any, *, is_missing: bool) -> FieldPath:
    """Return the path in the study of a location of pydantic, which has tags of unions too."""
    path: list[str | int] = []
    current = values
    for part in location:
        if part in _keys(current):
            current = current[part]
            path.append(part)
    if is_missing:
        path.append(location[-1])
    return tuple(path)


def _keys(value: object) -> Collection[str | int]:
    if isinstance(value, dict):
        return value.keys()
    return range(len(value)) if isinstance(value, list) else ()


def explain(details: ErrorDetails, values: dict[str, Any]) -> Broken:
    """Return the broken rule of an error of pydantic."""
    error, context = details["type"], details.get("ctx", {})
    path = locate(details["loc"], values, is_missing=error == "missing")
    value = list(details["input"]) if isinstance(details["input"], tuple) else details["input"]
    if error == "missing":
        rule = "required field is missing" + _kinds(path)
        return Broken(path=path, rule=rule, error=error)
    if error == "extra_forbidden":
        return _unknown_field(path, values)
    if error.startswith("union_tag"):
        name = context["discriminator"].strip("'")  # kind, or method of a search
        tag = value.get(name) if isinstance(value, dict) else None
        if error == "union_tag_not_found":
            rule = "required field is missing" + _kinds((*path, name))
            return Broken(path=(*path, name), rule=rule, error="missing")
        return _wrong_name((*path, name), tag, context["expected_tags"])
    if error == "literal_error":
        return _wrong_name(path, value, context["expected"])
    if error == "value_error":
        return Broken(path=path, rule=str(context["error"]), error=error)
    return Broken(path=path, rule=_rule(error, context, value, path), error=error)


def _rule(error: str, context: dict[str, Any], value: object, path: FieldPath) -> str:
    if error in _BOUNDS:
        key, sign = _BOUNDS[error]
        return f"must be {sign} {context[key]:g}, but got {value!r}"
    if error == "string_pattern_mismatch":
        return f"must match {context['pattern']}, but got {value!r}"
    if error == "string_too_long":
        return f"must have at most {context['max_length']} characters, but got {value!r}"
    if error in ("too_long", "too_short", "missing_positional"):
        length = context.get("max_length", context.get("min_length"))
        return f"must have {length} entries, but got {value!r}"
    rule = f"{_TYPE_RULES.get(error, error.replace('_', ' '))}, but got {value!r}"
    return rule + _hint(error, value, path)


def _hint(error: str, value: object, path: FieldPath) -> str:
    if error in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        return "; write it without quotes"
    if error == "int_type" and isinstance(value, float) and value.is_integer():
        limit = MAX_SEED if path == ("seed",) else MAX_COUNT
        return f"; write {int(value)}" if abs(value) <= limit else f", beyond {limit}"
    if isinstance(value, list) and path and path[0] in NEVER_AXES:
        return f"; a field of '{path[0]}' cannot be an axis" if len(path) > 1 else ""
    if error in ("model_type", "dict_type") and isinstance(value, list):
        return "; only a field can be an axis, so write the lists inside the section"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kinds(path: FieldPath) -> str:
    if path[-1] != "kind":
        return ""
    return ": " + ", ".join(repr(kind) for kind in kinds_at(path))


def _wrong_name(path: FieldPath, value: object, expected: str) -> Broken:
    names = re.findall(r"'([^']*)'", expected)
    choice = repr(names[0]) if len(names) == 1 else f"one of {', '.join(map(repr, names))}"
    suggestion = nearest(value, names)
    rule = f"must be {choice}, but got {value!r}" + _did_you_mean(suggestion)
    return Broken(path=path, rule=rule, error="literal_error", suggestion=suggestion)


def _did_you_mean(suggestion: str | None) -> str:
    return f"; did you mean {suggestion!r}?" if suggestion is not None else ""


def _unknown_field(path: FieldPath, values: dict[str, Any]) -> Broken:
    names = fields_at(values, path[:-1])
    suggestion = nearest(path[-1], names)
    rule = "unknown field"
    if path[-1] == "<<":
        rule = "merge keys are not supported; write the fields here"
    elif str(path[-1]).startswith("x-"):
        rule += "; write an anchor at the first use of its value, not in a field of its own"
    elif suggestion is not None:
        rule += _did_you_mean(suggestion)
    elif (elsewhere := _elsewhere(path)) is not None:
        rule += _did_you_mean(elsewhere)
    else:
        rule += f"; the fields here are {', '.join(names)}"
    return Broken(path=path, rule=rule, error="extra_forbidden", suggestion=suggestion)


def _elsewhere(path: FieldPath) -> str | None:
    """Return the field of another section that the last part of ``path`` most likely means."""
    others = [field for field in all_fields() if field != dotted(path)]
    by_name = {field.rpartition(".")[2]: field for field in reversed(others)}
    name = nearest(path[-1], by_name, cutoff=0.8)
    return by_name[name] if name is not None else None


def _with_whole_lists(broken: Sequence[Broken]) -> Iterator[Broken]:
    """Yield the broken rules, with one for all entries of a list that must be lists themselves."""
    groups: dict[tuple[FieldPath, str], list[Broken]] = {}
    for item in broken:
        is_list = item.error in ("tuple_type", "model_type")
        is_entry = is_list and bool(item.path) and isinstance(item.path[-1], int)
        groups.setdefault((item.path[:-1] if is_entry else item.path, item.error), []).append(item)
    for (path, error), items in groups.items():
        paths = {item.path for item in items}
        if path in paths or len(paths) == 1:
            yield from items
            continue
        first, but, _ = items[0].rule.partition(", but got ")
        values = " and ".join(item.rule.partition(but)[2] for item in items[:2])
        yield Broken(path=path, rule=f"every entry {first}{but}{values}", error=error)


def merge(broken: Sequence[Broken]) -> list[Broken]:
    """Return one broken rule per path; a union of types reports one for each of its members."""
    by_path: dict[FieldPath, Broken] = {}
    for item in _with_whole_lists(broken):
        other = by_path.get(item.path)
        if other is None or other.rule == item.rule:
            by_path[item.path] = item
            continue
        first, but, _ = other.rule.partition(", but got ")
        rule = f"{first} or {item.rule.removeprefix('must be ')}" if but else other.rule
        suggestion = other.suggestion or item.suggestion
        by_path[item.path] = Broken(
            path=item.path, rule=rule, error=item.error, suggestion=suggestion
        )
    # A union that expected a scalar is not reported if an entry of the list is.
    around = {path[:depth] for path in by_path for depth in range(len(path))}
    return [
        item
        for item in by_path.values()
        if item.error not in _TYPE_RULES or item.path not in around
    ]

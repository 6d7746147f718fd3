"""Rules on the arguments of parts of dgray, which replace the options of the part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from dgray.config.model import Model
from dgray.config.reading.diagnostics import Conflict, FieldPath
from dgray.config.reading.explain import explain
from dgray.config.reading.schema import nearest
from dgray.config.study import StudyConfig


def check_arguments(config: StudyConfig) -> Iterator[Conflict]:
    """Yield arguments that a part does not have, or whose values are invalid.

    The arguments of a part of another package are those of its factory, which a call checks.
    """
    fit, evaluate = config.fit, config.evaluate
    parts: list[tuple[FieldPath, Any, Model]] = [
        (("correction", "kind"), config.correction.kind, config.correction),
        (("fit", "objective"), fit.objective, fit),
        *((("evaluate", "sampler"), sampler, evaluate) for sampler in evaluate.sampler),
        *((("evaluate", "metrics"), metric, evaluate) for metric in evaluate.metrics),
    ]
    for path, part, section in parts:
        if part.spec in part.registry.built_in:
            for rule in _broken(part, section):
                yield Conflict(path=path, reads=(), rule=rule)


def _broken(part: Any, section: Model) -> Iterator[str]:
    owners = _owners(part, section)
    for name, value in part.arguments.items():
        if name in owners:
            if (rule := _invalid(owners[name], name, value)) is not None:
                yield f"argument {name!r} of {part.name!r} {rule.removeprefix(f'{name} ')}"
            continue
        near = nearest(name, owners)
        end = f"did you mean {near!r}?" if near else "remove it"
        rule = f"must be among {', '.join(owners)}" if owners else "must be left out"
        yield f"arguments of {part.name!r} {rule}, but got {name!r}; {end}"


def _owners(part: Any, section: Model) -> dict[str, Model]:
    """Return the section or subsection that has the field of each argument of a part."""
    owners: dict[str, Model] = {}
    for option in getattr(part.spec, "options", ()):
        value = getattr(section, option)
        if isinstance(value, Model):
            owners |= dict.fromkeys(type(value).model_fields, value)
        else:
            owners[option] = section
    return owners


def _invalid(owner: Model, name: str, value: Any) -> str | None:
    """Return the rule that a value of a field breaks."""
    values = owner.model_dump(mode="json") | {name: value}
    try:
        type(owner).model_validate_json(json.dumps(values))
    except ValidationError as error:
        return explain(error.errors()[0], values).rule
    return None

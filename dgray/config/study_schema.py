"""JSON Schema of the study file, for editors: it accepts every study that the reader accepts.

The rules between fields are left to the reader (``dgray check``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from dgray.catalogue import Registry
from dgray.config.correction import CorrectionPart
from dgray.config.parts import CUSTOM, MetricPart, ObjectivePart, Part, SamplerPart
from dgray.config.reading.axes import EVALUATION_AXES
from dgray.config.reading.diagnostics import FieldPath
from dgray.config.reading.domains import KINDS, MAX_CHOICES, SECTIONS
from dgray.config.reading.schema import (
    entries_of,
    is_never_axis,
    is_tag,
    kind_of,
    members,
    sections_of,
    takes_axis,
)
from dgray.config.search import EarlyStopping, GridSearch, SearchSampler
from dgray.config.study import StudyConfig

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{model}"
_OPTIONS: dict[str, dict[str, Schema]] = {  # of domains, besides ``when``
    "int": {"log": {"type": "boolean"}, "step": {"type": "integer", "exclusiveMinimum": 0}},
    "uniform": {"step": {"type": "number", "exclusiveMinimum": 0}},
}
# Sections that may be written as the value of one of their fields.
_SHORT = {SearchSampler: "name", EarlyStopping: "method"}


def study_schema() -> Schema:
    """Return the JSON Schema of the study file, with the names of all registered parts."""
    definitions: dict[str, Schema] = {"domain": _domain()}
    root = _section(StudyConfig, (), definitions)
    for part in (CorrectionPart, ObjectivePart, MetricPart, SamplerPart):
        definitions[part.__name__] = _part(part, definitions[part.__name__])
    return {
        "$schema": DIALECT,
        "title": "Study of dgray",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _section(model: type[BaseModel], path: FieldPath, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a section; definitions of its values are added."""
    fields = model.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    if model is GridSearch or kind_of(model) == CUSTOM:  # the reader adds these
        required = [name for name in required if name not in ("method", "kind")]
    schema = {
        "type": "object",
        "description": (model.__doc__ or "").strip().partition("\n")[0],
        "properties": {n: _field(f, (*path, n), definitions) for n, f in fields.items()},
        "additionalProperties": False,
    }
    return schema | ({"required": required} if required else {})


def _field(field: FieldInfo, path: FieldPath, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a field, as it is written: also an axis or a domain."""
    texts = {"description": field.description} if field.description else {}
    sections = sections_of(field.annotation)
    if sections:
        choices = [_section(model, path, definitions) for model in sections]
        for model, short in _SHORT.items():
            if model in sections:
                choices.append(choices[sections.index(model)]["properties"][short])
        for model in entries_of(field.annotation):
            entry = _section(model, (*path, 0), definitions)
            choices.append({"type": "array", "items": entry, "minItems": 1})
        if type(None) in members(field.annotation):
            choices.append({"type": "null"})
        return texts | (choices[0] if len(choices) == 1 else {"anyOf": choices})
    value = _value(field, definitions)
    choices = [value]
    is_evaluation_axis = path[0] == "evaluate" and path[-1] in EVALUATION_AXES
    if is_evaluation_axis:
        choices = [value["items"], _list_of(value["items"])]
    elif (
        not is_never_axis(path)
        and not is_tag(path, field.annotation)
        and takes_axis(field.annotation)
    ):
        choices.append(_list_of(value))
    is_fixed = is_tag(path, field.annotation) or path[-1] in ("arguments", "factory")
    is_searched = path[0] in SECTIONS and not is_fixed
    if is_searched and (path[0] != "evaluate" or path[1:] == ("guidance_weight",)):
        choices.append({"$ref": _REF.format(model="domain")})
    return texts | (value if choices == [value] else {"anyOf": choices})


def _value(field: FieldInfo, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a value that is neither an axis nor a domain."""
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    schema = adapter.json_schema(ref_template=_REF)
    definitions |= schema.pop("$defs", {})
    if "properties" in schema:  # a part alone is not a reference
        definitions[schema["title"]] = schema
        return {"$ref": _REF.format(model=schema["title"])}
    return schema


def _list_of(value: Schema) -> Schema:
    return {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}


def _part(part: type[Part], schema: Schema) -> Schema:
    """Return the schema of a part: its registered name, or a mapping."""
    registry: Registry[Any] = part.registry
    names = {"enum": list(registry.names)}
    properties: Mapping[str, Schema] = schema["properties"]
    own = {"type": "string", "maxLength": 64}
    registered = {"name": names, "arguments": properties["arguments"]}
    return {
        "anyOf": [
            names,
            _mapping(registered, ["name"]),
            _mapping({**properties, "factory": _text(properties), "name": own}, ["factory"]),
        ]
    }


def _mapping(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }


def _text(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an import path without its null."""
    choices: list[Schema] = properties["factory"]["anyOf"]
    return next(choice for choice in choices if choice["type"] == "string")


def _domain() -> Schema:
    """Return the schema of a domain: one kind with its options."""
    scalar = {"type": ["string", "number", "boolean", "null"]}
    values: dict[str, Schema] = {
        kind: {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        for kind in KINDS
    }
    values["int"] = values["int"] | {"items": {"type": "integer"}}
    values["choice"] = {
        "type": "array",
        "items": scalar,
        "minItems": 1,
        "maxItems": MAX_CHOICES,
    }
    when = {
        "type": "object",
        "additionalProperties": {"anyOf": [scalar, {"type": "array", "items": scalar}]},
    }
    return {
        "description": "Values that a search tries.",
        "anyOf": [
            _mapping({kind: values[kind], "when": when, **_OPTIONS.get(kind, {})}, [kind])
            for kind in KINDS
        ],
    }

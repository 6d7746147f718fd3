"""Generator of ``docs/study_file.md``, ``study.schema.json`` and ``parquet_schema.md``.

``python docs/generate.py`` writes them, from the models of the study file and the columns of rows.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from dgray.config.model import MAX_COUNT, MAX_SEED
from dgray.config.parts import Part
from dgray.config.reading.axes import EVALUATION_AXES
from dgray.config.reading.diagnostics import FieldPath, dotted
from dgray.config.reading.schema import (
    entries_of,
    is_never_axis,
    kind_of,
    members,
    sections_of,
    takes_axis,
)
from dgray.config.study import StudyConfig
from dgray.config.study_schema import study_schema
from dgray.record.row import row_columns

_SCALARS = {int: "integer", float: "number", str: "text", bool: "true or false"}
_COLUMNS = {
    "int": "int64",
    "float": "float64",
    "text": "string",
    "bool": "bool",
    "floats": "list<float64>",
}
_KINDS = {
    "identity": "Key of a row",
    "metric": "Metrics",
    "provenance": "Provenance",
}

_STUDY_INTRODUCTION = """\
# The study file

<!-- Written by `python docs/generate.py`; edit that instead. -->

A study is one YAML (1.2) file. It is read strictly: an unknown field, a number in quotes or an
impossible combination is refused before anything starts. Editors complete and check it by its
[JSON Schema](study.schema.json) (`dgray schema`), which a study names in its first line:
`# yaml-language-server: $schema=../docs/study.schema.json`.

```yaml
name: widths
description: Does a larger discriminator overfit sooner?
data: {kind: mixture, name: ring8, num_real: [100, 1000]}
base: {kind: wrong_mixture, std_scale: 1.3}
discriminator: {width: [16, 64, 256]}
fit: {objective: [cross_entropy, kl], epochs: 400, checkpoints: [20, 80, 400]}
evaluate: {guidance_weight: [0.5, 1, calibrated], sampler: [ode, sde]}
```

## Axes

**A list where a scalar is expected is a training axis**: that is the whole grid syntax. Every
combination of the training axes is a trial; the study above has 2 x 3 x 2 trained trials. A field
that does not apply to an objective adds no trials for it: values of `fit.gamma` multiply the
`mixed` trials only. The fields of `evaluate` marked *evaluation axis* are evaluated at each
checkpoint of a trial, and `fit.checkpoints` are epochs within a trial; neither requires more
training. Fields marked *no axis* cannot be axes: they take one value, not a list of alternatives.
Where a list is an ordinary value (`base.mean_shift: [1, 0]`), a list of lists is the axis. Values
of an axis must be distinct. The unguided base is always evaluated, once.

## Domains

With `search.method: optuna`, fields of `discriminator` and `fit`, and `evaluate.guidance_weight`,
may be domains instead, which Optuna searches: `{uniform: [0, 1]}`, `{log_uniform: [1e-5, 1e-2]}`,
`{int: [4, 64], log: true}`, `{choice: [0, 0.99]}`; with `step`, and with `when` for a field that
applies only if other fields have certain values. Every combination of the axes has a search of its
own. See [Searches](search.md).

## User-defined parts

Data, bases, discriminators, objectives, corrections, metrics and samplers can be defined in other
packages, without a change of dgray. A part is named by the import path of a function, with its
arguments:

```yaml
name: parts
fit: {objective: {factory: "my_package.parts:hinge", arguments: {margin: 1}}}
correction: {kind: [guidance, {factory: "my_package.parts:build_shift", name: shift}]}
evaluate:
  metrics: [path_kl, {factory: "my_package.parts:wasserstein"}]
  sampler: [ode, {factory: "my_package.parts:euler_maruyama"}]
data: {kind: points, factory: "my_package.parts:spiral", num_real: 500}
base: {factory: "my_package.parts:load_denoiser", arguments: {path: weights.pt}}
discriminator: {factory: "my_package.parts:residual_network"}
```

With `factory`, `base.kind` and `discriminator.kind` are `custom` and may be omitted; `data.kind`
is `points` or `images`. The name of such a part in rows and reports is that of the function,
unless `name` gives another one. An objective is trained and compares real with generated samples;
a metric compares samples with held-out data, and lower is better; a sampler is stochastic and has
one stage. A package that registers its parts can state other properties. Registered parts are
named like the parts of dgray, with `{name: hinge, arguments: {margin: 1}}` if they take arguments.
See [Extending dgray](extending.md).

## From the command line

`--set fit.epochs=100` replaces a field, or adds it; the value is YAML:
`--set 'discriminator.width=[16, 64]'`. There are no other options for fields. The study as it was
run, defaults filled in, is saved as `study.lock.yaml` in its run folder; that is a study file too.

## Limits

A study file is UTF-8 text of at most 1 MB, 20,000 values (those that aliases repeat included) and
32 levels. Whole numbers are at most 10^9 (a seed: 2^63 - 1); other numbers are 0 or
from 1e-9 to 1e9 in size (noise levels and scales of the data: 1e-6 to 1e6; factors on them: 1e-3
to 1e3), because squares and powers of others overflow. A study has at
most 10,000 trials, 10,000 evaluations of a trial (checkpoints x settings) and 10^6 rows.

## Errors

All mistakes are reported at once, one line each: location, field, rule, value, and the nearest
valid name or the fix.

```text
studies/widths.yaml:5:17: discriminator.widht: unknown field; did you mean 'width'?
studies/widths.yaml:6:19: fit.objective[0]: must be one of 'cross_entropy', 'kl', 'mixed', \
'time_score', 'oracle', 'oscillating', but got 'cross_entropi'; did you mean 'cross_entropy'?
studies/widths.yaml:6:52: fit.checkpoints: must be <= epochs, but got 800 > 400
--set base.num_generated=0: base.num_generated: must be > 0 for objective 'cross_entropy', which \
compares real with generated samples, but got 0; raise it or use objective 'kl' or 'time_score'
```

## Fields
"""

_SCHEMA_INTRODUCTION = """\
# The columns of report.parquet

<!-- Written by `python docs/generate.py` from dgray/record/row.py and dgray/catalogue/metrics.py;
edit those instead. -->

One row is one (trial, replicate, epoch, setting). Null means: not requested, or not defined for
this row. Columns under *Provenance* differ from run to run; all others are the same for the same
study, bit for bit. `report.parquet` has one more column for each training axis, named by its
dotted path (`discriminator.width`), and two for each metric of another package: its value, and
its standard error with the suffix `_se`.
"""


def study_file_text() -> str:
    """``docs/study_file.md``."""
    return _STUDY_INTRODUCTION + "\n" + "\n".join(_section(StudyConfig, (), "The study"))


def parquet_schema_text() -> str:
    """``docs/parquet_schema.md``."""
    lines = [_SCHEMA_INTRODUCTION]
    for kind, title in _KINDS.items():
        lines += [f"## {title}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [
            _row(f"`{column.name}`", _COLUMNS[column.type], column.unit, column.doc)
            for column in row_columns()
            if column.kind == kind
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def write(folder: Path) -> None:
    """Write all documents into ``folder``."""
    (folder / "study_file.md").write_text(study_file_text(), encoding="utf-8")
    (folder / "parquet_schema.md").write_text(parquet_schema_text(), encoding="utf-8")
    schema = json.dumps(study_schema(), indent=1)
    (folder / "study.schema.json").write_text(f"{schema}\n", encoding="utf-8")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section(model: type[BaseModel], path: FieldPath, title: str) -> Iterator[str]:
    """A heading, what the section is, the table of its own fields, and then its sections."""
    yield f"### {title}"
    yield ""
    if path:
        yield from (*textwrap.wrap(inspect.getdoc(model) or "", width=99), "")
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    sections: list[tuple[FieldPath, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        place = (*path, name)
        sections += [(place, section) for section in sections_of(field.annotation)]
        if sections_of(field.annotation):
            sections += [((*place, 0), entry) for entry in entries_of(field.annotation)]
        meaning = _meaning(place, field)
        yield _row(f"`{dotted(place)}`", _field_type(field), _default(field), meaning)
    yield ""
    for place, section in sections:
        yield from _section(section, place, f"`{dotted(place)}`{_selection(section)}")


def _selection(section: type[BaseModel]) -> str:
    """The kind or the method that selects a section, for its title."""
    if kind := kind_of(section):
        return f", kind {kind}"
    method = section.model_fields.get("method")
    names = get_args(method.annotation) if method is not None else ()
    return f", method {names[0]}" if len(names) == 1 else ""


def _meaning(path: FieldPath, field: FieldInfo) -> str:
    text = field.description or ""
    if sections_of(field.annotation):
        return text or "a section, below"
    if path[-1] == "kind":
        return "selects the kind"
    if path[0] == "evaluate" and path[-1] in EVALUATION_AXES:
        return f"{text} (*evaluation axis*)"
    if is_never_axis(path) or not takes_axis(field.annotation):
        return f"{text} (*no axis*)"
    return text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if sections_of(field.annotation) and field.default is not None:
        return "its defaults"
    return f"`{json.dumps(field.default, default=lambda part: part.name)}`"


def _field_type(field: FieldInfo) -> str:
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its range: ``integer > 0``, ``list of number``, ``'a' or 'b'``."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        return _type(inner, (*metadata, *_flat(extra)))
    if len(alternatives := _alternatives(annotation)) > 1:
        return " or ".join(dict.fromkeys(_type(part) for part in alternatives))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        if Ellipsis in parts:
            entry = _type(parts[0])
            return f"list of ({entry})" if " or " in entry else f"list of {entry}"
        return "[" + ", ".join(_type(part) for part in parts) + "]"
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is dict:
        _, value = get_args(annotation)
        return f"mapping of names to {'values' if value is JsonValue else f'({_type(value)})'}"
    if isinstance(annotation, type) and issubclass(annotation, Part):
        names = [f"`{spec.name}`" for spec in annotation.registry.built_in]
        return " or ".join([*names, "a user-defined part"])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    bounds = [_bound(item) for item in _flat(metadata)]
    return " ".join((_SCALARS[annotation], ", ".join(b for b in bounds if b))).strip()


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union as written, ranges included."""
    return get_args(annotation) if len(members(annotation)) > 1 else (annotation,)


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Constraints, also those inside a pydantic field."""
    return [
        constraint
        for item in metadata
        for constraint in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]


def _bound(constraint: object) -> str:
    match constraint:
        case Gt(gt=value):
            return f"> {value}"
        case Ge(ge=value):
            return f">= {value}"
        case Lt(lt=value):
            return f"< {value}"
        case Le(le=value) if value not in (MAX_COUNT, MAX_SEED):
            return f"<= {value}"
        case _:
            return ""


if __name__ == "__main__":
    write(Path(__file__).parent)

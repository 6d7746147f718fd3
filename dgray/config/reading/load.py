"""Loading of a study: read, override and validate the file, and configure its combinations."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.config.parts import Part
from dgray.config.reading.axes import resolve, section_at
from dgray.config.reading.check import check
from dgray.config.reading.check_search import impossible_conditions, unknown_conditions
from dgray.config.reading.diagnostics import Diagnostic, FieldPath, Place, dotted
from dgray.config.reading.document import Document, apply_overrides, parse_document, read_document
from dgray.config.reading.domains import Domain, Value, take_domains
from dgray.config.reading.repair import configure
from dgray.config.reading.unread import unread_fields
from dgray.config.reading.validate import Combination, validate
from dgray.config.study import StudyConfig
from dgray.errors import StudyError


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One value on every training axis, and the resulting configuration."""

    axes: Mapping[str, Any]  # dotted path -> value
    config: StudyConfig  # with the first probe of every domain
    taken: Mapping[FieldPath, int]  # which value of each axis


@dataclass(frozen=True, kw_only=True)
class Study:
    """Valid study."""

    name: str
    description: str
    raw: Mapping[str, Any]  # every field, defaults included; axes are lists
    axes: Mapping[str, tuple[Any, ...]]  # training axes: dotted path -> values
    configs: tuple[Assignment, ...]  # the whole grid, the last axis varying fastest
    domains: Mapping[FieldPath, Domain]  # what a search varies
    document: Document  # as written, each domain replaced by its probes
    unread: tuple[str, ...]  # fields with a value of their own that no trial reads

    def place(self, field: str) -> Place:
        """Return the place of a field, by its dotted path, or of the section that lacks it."""
        return self.document.place(tuple(field.split(".")))


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Load a study file with ``a.b=value`` overrides.

    Raises:
        StudyError: with all diagnostics of the study.
    """
    return _load(read_document(path), overrides)


def load_values(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Study:
    """Load a study from its fields, as they are in ``Study.raw``.

    Args:
        values: the fields.
        overrides: see ``load_study``.

    Raises:
        StudyError: with all diagnostics of the study.
    """
    return _load(parse_document(_yaml(values)), overrides)


def _load(document: Document, overrides: Sequence[str]) -> Study:
    written = apply_overrides(document, overrides)
    document, domains, diagnostics = take_domains(written)
    diagnostics += search_diagnostics(document, domains, has_broken=bool(diagnostics))
    diagnostics += unknown_conditions(document, domains)
    combinations = validate(document, domains, diagnostics)
    never = list(impossible_conditions(document, domains, _conditions(combinations, domains)))
    if never:
        raise StudyError(never)
    cells = _cells(combinations, domains)
    axes = _axis_values(cells)
    first = cells[0][1]
    raw = first.model_dump(mode="json")
    for axis, values in axes.items():
        section_at(raw, axis)[axis[-1]] = [_plain(value) for value in values]
    for axis in domains:
        section_at(raw, axis)[axis[-1]] = section_at(written.values, axis)[axis[-1]]
    return Study(
        name=first.name,
        description=first.description,
        raw=raw,
        axes={
            dotted(path): tuple(v.name if isinstance(v, Part) else v for v in values)
            for path, values in axes.items()
        },
        configs=tuple(
            Assignment(
                axes={dotted(axis): value_at(config, axis) for axis in taken},
                config=config,
                taken=taken,
            )
            for taken, config in cells
        ),
        domains=domains,
        document=document,
        unread=unread_fields(document, (config for _, config in combinations)),
    )


def configure_point(
    study: Study, assignment: Assignment, point: Mapping[FieldPath, Value]
) -> StudyConfig:
    """Return the configuration of one point of a search; a domain without a value has its default.

    Raises:
        ValueError: if the values of the point are an impossible combination.
    """
    values = resolve(study.document.values, assignment.taken)
    for path in study.domains:
        holder = section_at(values, path)
        if path in point:
            holder[path[-1]] = point[path]
        else:
            holder.pop(path[-1], None)
    outcome = configure(values)
    if isinstance(outcome, StudyConfig):
        broken = [f"{dotted(finding.path)}: {finding.rule}" for finding in check(outcome)]
    else:
        broken = [f"{dotted(item.path)}: {item.rule}" for item in outcome]
    if broken or not isinstance(outcome, StudyConfig):
        raise ValueError("; ".join(broken))
    return outcome


def search_diagnostics(
    document: Document, domains: Collection[FieldPath], *, has_broken: bool
) -> list[Diagnostic]:
    """Return the diagnostics of a search without domains, and of domains without a search."""
    search = document.values.get("search")
    method = search.get("method", "grid") if isinstance(search, dict) else "grid"
    if method == "optuna" and not domains and not has_broken:
        place = document.place(("search", "method"))
        rule = (
            "optuna needs a field that is a domain, like fit.learning_rate: "
            "{log_uniform: [1e-5, 1e-2]}, but there is none; add one, or use method: grid"
        )
        return [Diagnostic(place, "search.method", rule)]
    if method == "grid" and domains:
        rule = "a domain needs search.method 'optuna', but it is 'grid'; or write a list, an axis"
        return [Diagnostic(document.place(path), dotted(path), rule) for path in domains]
    return []


def _cells(
    combinations: Sequence[Combination], domains: Collection[FieldPath]
) -> list[Combination]:
    """Return one combination for each of the axes: that of the first probes."""
    cells: dict[tuple[tuple[FieldPath, int], ...], Combination] = {}
    for taken, config in combinations:
        fixed = {path: index for path, index in taken.items() if path not in domains}
        cells.setdefault(tuple(fixed.items()), (fixed, config))
    return list(cells.values())


def _conditions(
    combinations: Sequence[Combination], domains: Mapping[FieldPath, Domain]
) -> dict[str, list[Any]]:
    """Return the possible values of each field that a domain depends on."""
    names = dict.fromkeys(name for domain in domains.values() for name in domain.when or ())
    return {
        name: list(
            dict.fromkeys(value_at(config, tuple(name.split("."))) for _, config in combinations)
        )
        for name in names
    }


def lock_text(study: Study) -> str:
    """Return the text of ``study.lock.yaml``, with every field; it loads to the same study."""
    return "# Every field of the study as it was run, defaults included.\n" + _yaml(study.raw)


def flow_text(value: Any) -> str:
    """Return a value as YAML in one line, as in an override."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = sys.maxsize
    text = io.StringIO()
    yaml.dump([value], text)  # in a list, since a scalar alone would have an end mark
    return text.getvalue().strip()[1:-1]


def _yaml(values: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # lists of scalars on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 99
    text = io.StringIO()
    yaml.dump(dict(values), text)
    return text.getvalue()


def value_at(config: StudyConfig, path: FieldPath) -> Any:
    """Return the value of one field; that of a part is its name."""
    value = _field_at(config, path)
    return value.name if isinstance(value, Part) else value


def _field_at(config: StudyConfig, path: FieldPath) -> Any:
    value: Any = config
    for name in path:
        value = getattr(value, str(name))
    return value


def _axis_values(combinations: Sequence[Combination]) -> dict[FieldPath, tuple[Any, ...]]:
    """Return the values of each axis as validated, in the order written."""
    by_index: dict[FieldPath, dict[int, Any]] = {}
    for taken, config in combinations:
        for path, index in taken.items():
            by_index.setdefault(path, {}).setdefault(index, _field_at(config, path))
    return {path: tuple(values[i] for i in sorted(values)) for path, values in by_index.items()}


def _plain(value: object) -> object:
    if isinstance(value, Part):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value

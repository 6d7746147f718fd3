"""From a study file to every trial's configuration: read, override, validate. Knows no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.config.axes import section_at
from dgray.config.overrides import apply_overrides
from dgray.config.problem import FieldPath, dotted
from dgray.config.study import StudyConfig
from dgray.config.validate import Combination, validate
from dgray.config.yaml_source import read_document


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One value on every training axis, and the configuration that results."""

    axes: Mapping[str, Any]  # dotted path -> value
    config: StudyConfig


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file, read and found sound."""

    name: str
    description: str
    source: Path
    raw: Mapping[str, Any]  # every field with defaults filled in; training axes are lists
    axes: Mapping[str, tuple[Any, ...]]  # training axes: dotted path -> values
    configs: tuple[Assignment, ...]  # the whole grid, the last axis varying fastest


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study with ``a.b=value`` overrides. Raises ``StudyError`` with all that is wrong."""
    combinations = validate(apply_overrides(read_document(path), overrides))
    first = combinations[0][1]
    axes = _axis_values(combinations)
    raw = first.model_dump(mode="json")
    for at, values in axes.items():
        section_at(raw, at)[at[-1]] = [_plain(value) for value in values]
    return Study(
        name=first.name,
        description=first.description,
        source=path,
        raw=raw,
        axes={dotted(at): values for at, values in axes.items()},
        configs=tuple(
            Assignment(axes={dotted(at): value_at(config, at) for at in taken}, config=config)
            for taken, config in combinations
        ),
    )


def lock_text(study: Study) -> str:
    """The text of ``study.lock.yaml``: every field written out. It loads to the same study."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # lists of scalars on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 99
    text = io.StringIO()
    yaml.dump(study.raw, text)
    return "# Every field of the study as it was run, defaults included.\n" + text.getvalue()


def value_at(config: StudyConfig, path: FieldPath) -> Any:
    """The value of one field."""
    value: Any = config
    for part in path:
        value = getattr(value, str(part))
    return value


def _axis_values(combinations: Sequence[Combination]) -> dict[FieldPath, tuple[Any, ...]]:
    """Each axis' values as validated, in the order written."""
    found: dict[FieldPath, dict[int, Any]] = {}
    for taken, config in combinations:
        for path, index in taken.items():
            found.setdefault(path, {}).setdefault(index, value_at(config, path))
    return {path: tuple(values[i] for i in sorted(values)) for path, values in found.items()}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

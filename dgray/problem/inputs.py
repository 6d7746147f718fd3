"""Inspection of a study's files, sizes, classes and features before anything starts. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dgray.catalogue import top_level_module
from dgray.catalogue.objects import absent_objects
from dgray.config.reading.diagnostics import Diagnostic
from dgray.config.study import StudyConfig
from dgray.data.summary import DataSummary
from dgray.errors import DataError, MissingFileError, StudyError
from dgray.plan.plan import Plan
from dgray.plan.survey import survey
from dgray.problem.data_rules import DATA_RULES, Finding, Rule, is_installed
from dgray.problem.network_rules import NETWORK_RULES, network_notices


@dataclass(frozen=True)
class Inspection:
    """Result of the inspection of a study.

    Attributes:
        lines: what the data sets contain.
        conflicts: what cannot work; an error.
        missing: files that this machine lacks, and others may have; an error when the study runs.
        notices: possible surprises, not errors.
    """

    lines: tuple[str, ...]
    conflicts: tuple[Diagnostic, ...]
    missing: tuple[Diagnostic, ...]
    notices: tuple[str, ...]

    def check(self, *, files: bool = True) -> None:
        """Raise an error if the study cannot work; ``files``: also if a file is missing.

        Raises:
            StudyError: with all diagnostics.
        """
        problems = self.conflicts + (self.missing if files else ())
        if problems:
            raise StudyError(problems)


def inspect(plan: Plan) -> Inspection:
    """Compare a study with the files that it names, from their headers and descriptions."""
    lines: dict[str, None] = {}
    findings: dict[Finding, None] = {}
    notices: dict[str, None] = {}
    for assignment in plan.study.configs:
        config, summary = assignment.config, None
        try:
            if (summary := survey(config.data)) is not None:
                lines.update(dict.fromkeys(summary.lines()))
        except MissingFileError as error:
            findings[Finding("data", str(error), is_missing=True)] = None
            summary = error.summary
        except DataError as error:
            findings[Finding("data", str(error))] = None
        findings.update(dict.fromkeys(findings_of(config, summary)))
        notices.update(dict.fromkeys(network_notices(config)))

    def diagnostics(*, missing: bool) -> tuple[Diagnostic, ...]:
        chosen = (finding for finding in findings if finding.is_missing == missing)
        place = plan.study.place
        return tuple(Diagnostic(place(f.field), f.field, f.rule) for f in chosen)

    return Inspection(
        tuple(lines), diagnostics(missing=False), diagnostics(missing=True), tuple(notices)
    )


def findings_of(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Yield the rules that a configuration breaks; ``summary``: of its data, if it is known."""
    for rule in _RULES:
        yield from rule(config, summary)


def _objects(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Python objects that this process lacks."""
    del summary
    for field, section in config.model_dump(mode="json").items():
        for rule in absent_objects(section):
            yield Finding(field, rule, is_missing=True)


def _modules(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Modules of parts that Python does not find."""
    del summary
    if "RAY_ADDRESS" in os.environ:
        return  # workers import them
    for field, path in config.import_paths:
        module = top_level_module(path)
        if module not in sys.modules and not is_installed(module):
            rule = f"{path}: No module named {module!r}; install it, or add it to PYTHONPATH"
            yield Finding(field, rule, is_missing=True)


_RULES: tuple[Rule, ...] = (*DATA_RULES, *NETWORK_RULES, _objects, _modules)

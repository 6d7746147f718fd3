"""Validation of a study: the configuration of every combination, or all diagnostics at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dgray.config.parts import BASE, unique_names
from dgray.config.reading.axes import find_axes, number_of_trials, probed, resolve
from dgray.config.reading.check import check
from dgray.config.reading.diagnostics import Conflict, Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.relevance import irrelevant_fields, matters
from dgray.config.reading.repair import Validation, configure, repair
from dgray.config.study import StudyConfig
from dgray.errors import StudyError

MAX_TRIALS = 10_000  # a larger grid is a mistake, and would take minutes to check

Combination = tuple[Mapping[FieldPath, int], StudyConfig]


def validate(
    document: Document,
    domains: Collection[FieldPath] = (),
    diagnostics: Collection[Diagnostic] = (),
) -> list[Combination]:
    """Return every combination of the axes, with every probe of a domain once.

    Args:
        document: study with each domain replaced by its probes.
        domains: paths of the domains.
        diagnostics: diagnostics that are reported together with those found here.

    Raises:
        StudyError: with all diagnostics.
    """
    validation = Validation.of(document)
    validation.diagnostics.update(diagnostics)
    combinations: list[Combination] = []
    if repair(validation) and _is_feasible(validation, domains):
        combinations = list(_combinations(validation, domains))
        _check_objective_names(validation, [config for _, config in combinations])
        _check_axes_matter(validation, [config for _, config in combinations], domains)
    if validation.diagnostics:
        raise StudyError(validation.diagnostics)
    return combinations


def _is_feasible(validation: Validation, domains: Collection[FieldPath]) -> bool:
    every = find_axes(validation.document.values)
    axes = {path: values for path, values in every.items() if path not in domains}
    number = number_of_trials(axes)
    if number > MAX_TRIALS:
        longest = max(axes, key=lambda path: len(axes[path]))
        rule = f"the axes make {number} trials, more than {MAX_TRIALS}; shorten some of them"
        validation.report(longest, rule)
    return number <= MAX_TRIALS


def _combinations(validation: Validation, domains: Collection[FieldPath]) -> Iterator[Combination]:
    """Yield every valid combination; report the diagnostics of the others."""
    values = validation.document.values
    for taken in probed(find_axes(values), domains):
        resolved = resolve(values, taken)
        outcome = configure(resolved)
        if isinstance(outcome, StudyConfig):
            for finding in check(outcome):
                _report(validation, finding, taken)
            yield taken, outcome
        else:
            validation.report_sections(outcome, resolved)


def _report(validation: Validation, finding: Conflict, taken: Mapping[FieldPath, int]) -> None:
    """Report an impossible combination at its field or, if that is a default, at another one."""
    if any(validation.is_repaired(path) for path in (finding.path, *finding.reads)):
        return
    parts = (finding.path, *finding.reads)
    written = [path for path in parts if path in validation.document.places] or [finding.path]
    place = (*written[0], taken[written[0]]) if written[0] in taken else written[0]
    validation.report(finding.path, finding.rule, written=place)


def _check_objective_names(validation: Validation, configs: list[StudyConfig]) -> None:
    try:
        unique_names("objectives", (config.fit.objective for config in configs))
    except ValueError as error:
        validation.report(("fit", "objective"), str(error))


def _check_axes_matter(
    validation: Validation, configs: list[StudyConfig], domains: Collection[FieldPath]
) -> None:
    """Report axes that change no trial; they would silently be absent from the plan."""
    irrelevant = [
        irrelevant_fields(config, objective)
        for config in configs
        for objective in (BASE, config.fit.objective.name)
    ]
    for path, values in find_axes(validation.document.values).items():
        if (
            len(values) > 1
            and irrelevant
            and not any(matters(path, fields) for fields in irrelevant)
        ):
            objectives = sorted({config.fit.objective.name for config in configs})
            noun, end = (
                ("a domain", "remove it, or add an objective to which it applies")
                if path in domains
                else ("an axis", "give it one value")
            )
            rule = (
                f"{noun} must change at least one trial, but {dotted(path)} applies to no trial "
                f"with objective {', '.join(objectives)}; {end}"
            )
            validation.report(path, rule)

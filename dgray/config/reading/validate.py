"""The configuration of every combination of the axes, or every problem of the study in one go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dgray.config.parts import BASE, unique_names
from dgray.config.reading.axes import find_axes, number_of_trials, probed, resolve
from dgray.config.reading.check import check
from dgray.config.reading.mend import Inquiry, configure, mend
from dgray.config.reading.problem import FieldPath, Finding, Problem, dotted
from dgray.config.reading.relevance import irrelevant_fields, matters
from dgray.config.reading.yaml_source import Document
from dgray.config.study import StudyConfig
from dgray.errors import StudyError

MAX_TRIALS = 10_000  # a grid beyond this is a mistake, and would take minutes only to check

Combination = tuple[Mapping[FieldPath, int], StudyConfig]


def validate(
    document: Document, domains: Collection[FieldPath] = (), problems: Collection[Problem] = ()
) -> list[Combination]:
    """Every combination of the axes, with every probe of a domain once.

    Raises ``StudyError`` with all problems, those that were found before among them.
    """
    inquiry = Inquiry.of(document)
    inquiry.problems.update(problems)
    combinations: list[Combination] = []
    if mend(inquiry) and _is_feasible(inquiry, domains):
        combinations = list(_combinations(inquiry, domains))
        _check_objective_names(inquiry, [config for _, config in combinations])
        _check_axes_matter(inquiry, [config for _, config in combinations], domains)
    if inquiry.problems:
        raise StudyError(inquiry.problems)
    return combinations


def _is_feasible(inquiry: Inquiry, domains: Collection[FieldPath]) -> bool:
    found = find_axes(inquiry.document.values)
    axes = {path: values for path, values in found.items() if path not in domains}
    number = number_of_trials(axes)
    if number > MAX_TRIALS:
        longest = max(axes, key=lambda path: len(axes[path]))
        rule = f"the axes make {number} trials, more than {MAX_TRIALS}; shorten some of them"
        inquiry.report(longest, rule)
    return number <= MAX_TRIALS


def _combinations(inquiry: Inquiry, domains: Collection[FieldPath]) -> Iterator[Combination]:
    """Every combination that is valid on its own; what is wrong with any is reported."""
    values = inquiry.document.values
    for taken in probed(find_axes(values), domains):
        resolved = resolve(values, taken)
        outcome = configure(resolved)
        if isinstance(outcome, StudyConfig):
            for finding in check(outcome):
                _report(inquiry, finding, taken)
            yield taken, outcome
        else:
            inquiry.report_sections(outcome, resolved)


def _report(inquiry: Inquiry, finding: Finding, taken: Mapping[FieldPath, int]) -> None:
    """Note an impossible combination where the field, or what else takes part, was written."""
    if any(inquiry.is_mended(path) for path in (finding.path, *finding.reads)):
        return
    parts = (finding.path, *finding.reads)
    written = [path for path in parts if path in inquiry.document.places] or [finding.path]
    at = (*written[0], taken[written[0]]) if written[0] in taken else written[0]
    inquiry.report(finding.path, finding.rule, at=at)


def _check_objective_names(inquiry: Inquiry, configs: list[StudyConfig]) -> None:
    try:
        unique_names("objectives", (config.fit.objective for config in configs))
    except ValueError as error:
        inquiry.report(("fit", "objective"), str(error))


def _check_axes_matter(
    inquiry: Inquiry, configs: list[StudyConfig], domains: Collection[FieldPath]
) -> None:
    """An axis that changes no trial would silently vanish from the plan."""
    irrelevant = [
        irrelevant_fields(config, objective)
        for config in configs
        for objective in (BASE, config.fit.objective.name)
    ]
    for path, values in find_axes(inquiry.document.values).items():
        if len(values) > 1 and irrelevant and not any(matters(path, no) for no in irrelevant):
            objectives = sorted({config.fit.objective.name for config in configs})
            what, end = (
                ("a domain", "remove it, or add an objective that it matters to")
                if path in domains
                else ("an axis", "give it one value")
            )
            rule = (
                f"{what} must change some trial, but {dotted(path)} matters to none with "
                f"objective {', '.join(objectives)}; {end}"
            )
            inquiry.report(path, rule)

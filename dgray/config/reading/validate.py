"""Validation of a study: the configuration of every combination, or all diagnostics at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping

from dgray.catalogue import GUIDANCE
from dgray.config.parts import BASE, unique_names
from dgray.config.reading.axes import (
    EVALUATION_AXES,
    all_axes,
    find_axes,
    number_of_trials,
    probed,
    resolve,
)
from dgray.config.reading.check import check
from dgray.config.reading.diagnostics import Conflict, Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.relevance import irrelevant_fields, matters
from dgray.config.reading.repair import Validation, configure, repair
from dgray.config.study import StudyConfig
from dgray.errors import StudyError

MAX_TRIALS = 10_000  # a larger grid is a mistake, and would take minutes to check
MAX_EVALUATIONS = 10_000  # of a trial: checkpoints times settings
MAX_ROWS = 1_000_000

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
    if _is_feasible(validation, domains) and repair(validation):
        combinations = list(_combinations(validation, domains))
        configs = [config for _, config in combinations]
        _check_objective_names(validation, configs)
        _check_axes_matter(validation, configs, domains)
        _check_epochs(validation, configs, domains)
        _check_rows(validation, configs)
    if validation.diagnostics:
        raise StudyError(validation.diagnostics)
    return combinations


def _is_feasible(validation: Validation, domains: Collection[FieldPath]) -> bool:
    """Report a grid that is too large to be checked value by value."""
    values = validation.document.values
    axes = {path: axis for path, axis in find_axes(values).items() if path not in domains}
    lists = {
        path: axis for path, axis in all_axes(values).items() if path not in {*axes, *domains}
    }
    fit = values.get("fit")
    checkpoints = fit.get("checkpoints") if isinstance(fit, dict) else None
    if isinstance(checkpoints, list):
        lists["fit", "checkpoints"] = checkpoints
    for group, limit, noun in (
        (axes, MAX_TRIALS, "trials"),
        (lists, MAX_EVALUATIONS, "evaluations of a trial"),
    ):
        number = number_of_trials(group)
        if number > limit:
            longest = max(group, key=lambda path: len(group[path]))
            rule = f"the axes make {number} {noun}, more than {limit}; shorten some of them"
            validation.report(longest, rule)
            return False
    return True


def _check_rows(validation: Validation, configs: list[StudyConfig]) -> None:
    number = sum(
        config.replicates
        * len(config.fit.checkpoint_epochs)
        * math.prod(len(getattr(config.evaluate, name)) for name in EVALUATION_AXES)
        for config in configs
    )
    if number > MAX_ROWS:
        rule = (
            f"the study has {number} rows (trials x checkpoints x settings x replicates), more "
            f"than {MAX_ROWS}; use fewer replicates, or shorten an axis"
        )
        validation.report(("replicates",), rule)


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


def _check_epochs(
    validation: Validation, configs: list[StudyConfig], domains: Collection[FieldPath]
) -> None:
    """Report epochs that vary although a budget determines them."""
    path: FieldPath = ("fit", "epochs")
    values = find_axes(validation.document.values).get(path, [])
    has_budget = any(config.budget.train_flops is not None for config in configs)
    if has_budget and (len(values) > 1 or path in domains):
        noun = "a domain" if path in domains else "an axis"
        rule = (
            f"must have one value with budget.train_flops, which sets the epochs of every trial, "
            f"but is {noun}; give it one value, or remove the budget"
        )
        validation.report(path, rule)


def _check_axes_matter(
    validation: Validation, configs: list[StudyConfig], domains: Collection[FieldPath]
) -> None:
    """Report axes that change no trial; they would silently be absent from the plan."""
    irrelevant = [
        irrelevant_fields(config, objective)
        for config in configs
        for objective in (BASE, config.method)
    ]
    for path, values in find_axes(validation.document.values).items():
        if (
            len(values) > 1
            and irrelevant
            and not any(matters(path, fields) for fields in irrelevant)
        ):
            noun, end = (
                ("a domain", "remove it, or add a trial to which it applies")
                if path in domains
                else ("an axis", "give it one value")
            )
            rule = (
                f"{noun} must change at least one trial, but {dotted(path)} applies to no trial "
                f"with {_methods(configs)}; {end}"
            )
            validation.report(path, rule)


def _methods(configs: Iterable[StudyConfig]) -> str:
    """Return the corrections of a study, those by guidance as their objectives."""
    names: dict[str, set[str]] = {}
    for config in configs:
        is_guidance = config.correction.name == GUIDANCE
        noun = "objective" if is_guidance else "correction"
        name = config.fit.objective.name if is_guidance else config.correction.name
        names.setdefault(noun, set()).add(name)
    return " or ".join(f"{noun} {', '.join(sorted(names[noun]))}" for noun in sorted(names))

"""Cells of a study, the combinations of its axes that have a search each, and trials of points."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dgray.config.reading.diagnostics import FieldPath, dotted
from dgray.config.reading.domains import Domain, Value
from dgray.config.reading.load import Assignment, Study, configure_point, value_at
from dgray.config.reading.relevance import irrelevant_fields, matters, relevant_config
from dgray.config.search import OptunaSearch
from dgray.plan.budget import within_budget
from dgray.plan.plan import (
    Trial,
    build_trial,
    is_method_searched,
    label_of,
    searched_assignments,
)

Point = Mapping[FieldPath, Value]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the axes of a study that searches, with its own search."""

    id: str  # stable across runs
    label: str  # "kl, num_real 100"
    assignment: Assignment
    search: OptunaSearch


def cells_of(study: Study) -> tuple[Cell, ...]:
    """Return the different cells of a study; a grid has none."""
    varying = {path for path, values in study.axes.items() if len(values) > 1}
    cells = (_cell(study, assignment, varying) for assignment in searched_assignments(study))
    return tuple({cell.id: cell for cell in cells}.values())


def typical_trial(study: Study, cell: Cell) -> Trial:
    """Return the trial in the middle of every domain, whose cost is typical."""
    point: dict[FieldPath, Value] = {}
    for domain in in_order(study):
        if is_active(study, cell, domain, point):
            point[domain.path] = domain.middle
    return point_trial(study, cell, point)


def in_order(study: Study) -> list[Domain]:
    """Return the domains, choices first, since they decide which others matter."""
    return sorted(study.domains.values(), key=lambda domain: domain.kind != "choice")


def point_trial(study: Study, cell: Cell, point: Point) -> Trial:
    """Return the trial of one point of a search.

    Raises:
        ValueError: if the values of the point are an impossible combination, or beyond the budget.
    """
    config = configure_point(study, cell.assignment, point)
    config = within_budget(config)
    objective = config.method
    irrelevant = irrelevant_fields(config, objective)
    axes = dict(cell.assignment.axes) | {dotted(path): value for path, value in point.items()}
    own = {path: v for path, v in axes.items() if matters(tuple(path.split(".")), irrelevant)}
    identity = json.dumps(
        relevant_config(config, objective), sort_keys=True, separators=(",", ":")
    )
    return build_trial(objective, own, config, identity)


def is_active(study: Study, cell: Cell, domain: Domain, point: Point) -> bool:
    """Return True if a domain matters to a point with these values so far."""
    return _matters_to(study, cell.assignment, domain, point)


def _may_matter(study: Study, assignment: Assignment, domain: Domain) -> bool:
    """Return True if a domain matters to some point of a combination of the axes."""
    choices = {d.path: d.choices for d in study.domains.values() if d.kind == "choice"}
    points = itertools.product(*choices.values())
    return any(
        _matters_to(study, assignment, domain, dict(zip(choices, point, strict=True)))
        for point in points
    )


def _matters_to(study: Study, assignment: Assignment, domain: Domain, point: Point) -> bool:
    probes = {path: domain.probes[0] for path, domain in study.domains.items()}
    config = configure_point(study, assignment, {**probes, **point})
    for name, values in (domain.when or {}).items():
        if value_at(config, tuple(name.split("."))) not in values:
            return False
    return matters(domain.path, irrelevant_fields(config, config.method))


def _cell(study: Study, assignment: Assignment, varying: Collection[str]) -> Cell:
    search = assignment.config.search
    assert isinstance(search, OptunaSearch)  # domains need a search, as the study file is checked
    objective = assignment.config.method
    is_fixed = not is_method_searched(study)
    irrelevant = irrelevant_fields(assignment.config, objective) if is_fixed else set()
    axes = {
        path: value
        for path, value in assignment.axes.items()
        if path in varying and matters(tuple(path.split(".")), irrelevant)
    }
    if not any(_may_matter(study, assignment, domain) for domain in study.domains.values()):
        search = search.model_copy(update={"num_trials": 1})  # all points are the same
    label = label_of(assignment.config.method if is_fixed else "search", axes)
    defining = [relevant_config(assignment.config, objective), str(sorted(study.domains.items()))]
    digest = hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9]+", "_", label)[:40]
    return Cell(id=f"{name}-{digest}", label=label, assignment=assignment, search=search)

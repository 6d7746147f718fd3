"""Rules on the metrics of a search, and on the conditions of its domains."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dgray.catalogue import METRICS
from dgray.config.reading.diagnostics import Conflict, Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.domains import Domain, Value
from dgray.config.reading.schema import all_fields, nearest
from dgray.config.search import COSTS, SEARCHABLE, OptunaSearch, measured_by
from dgray.config.study import StudyConfig

_METRICS: FieldPath = ("evaluate", "metrics")
_KIND: FieldPath = ("data", "kind")


def check_search(config: StudyConfig) -> Iterator[Conflict]:
    """Yield metrics of the search that this study does not measure."""
    search = config.search
    if not isinstance(search, OptunaSearch):
        return
    kind = config.data.sample_kind
    parts: tuple[tuple[str, Collection[str]], ...] = (
        ("metrics", search.metrics),
        ("constraints", search.constraints),
    )
    for part, name in ((part, name) for part, names in parts for name in names):
        if name in COSTS or measured_by(name).is_always_computed:
            continue
        path: FieldPath = ("search", part)
        if not _applies(name, kind):
            others = [other for other in SEARCHABLE if _applies(other, kind)]
            needs = "images" if kind == "points" else "points"
            yield Conflict(
                path=path,
                reads=(_KIND,),
                rule=f"'{name}' needs {needs}, but the data are {kind}; use {', '.join(others)}",
            )
            continue
        measured = measured_by(name, kind).name
        if measured not in config.evaluate.metric_names:
            rule = (
                f"'{name}' must be measured on held-out data too, to see how much selection by it "
                f"flatters; add '{measured}' to evaluate.metrics, which is "
                f"{list(config.evaluate.metric_names)}"
            )
            yield Conflict(path=path, reads=(_METRICS,), rule=rule)
    yield from _one_setting(search)


def _applies(name: str, kind: str) -> bool:
    """True if some metric of this kind of data has the column ``name``."""
    return any(
        kind in metric.kinds and any(column.name == name for column in metric.columns)
        for metric in METRICS
    )


def _one_setting(search: OptunaSearch) -> Iterator[Conflict]:
    """Metrics of deterministic and of stochastic samplers, which no setting has together."""
    needs = {name: measured_by(name).needs_sampler for name in search.validated}
    stochastic, flow = (
        sorted(name for name, need in needs.items() if need == sampler)
        for sampler in ("stochastic", "flow")
    )
    if stochastic and flow:
        yield Conflict(
            path=("search", "metrics"),
            reads=(),
            rule=f"{', '.join(map(repr, stochastic))} is of a stochastic sampler and "
            f"{', '.join(flow)} of the deterministic one, and all values of a point are of one "
            "setting; leave one out",
        )


def unknown_conditions(
    document: Document, domains: Mapping[FieldPath, Domain]
) -> Iterator[Diagnostic]:
    """Yield conditions on fields that do not exist."""
    names = set(all_fields())
    for path, domain in domains.items():
        for name in domain.when or ():
            if name not in names:
                near = nearest(name, names)
                hint = f"; did you mean {near!r}?" if near else ""
                rule = f"when: there is no field {name!r}{hint}"
                yield Diagnostic(document.place(path), dotted(path), rule)


def _may_be(value: Value, domain: Domain | None, values: Collection[object]) -> bool:
    """Return True if a field, which may be a domain itself, can have a value."""
    if domain is None or domain.kind == "choice":
        return value in values
    return isinstance(value, int) and domain.low <= value <= domain.high


def impossible_conditions(
    document: Document,
    domains: Mapping[FieldPath, Domain],
    values_of: Mapping[str, Collection[object]],
) -> Iterator[Diagnostic]:
    """Yield conditions that no trial meets; ``values_of``: the possible values of their fields."""
    for path, domain in domains.items():
        for name, values in (domain.when or {}).items():
            on = domains.get(tuple(name.split(".")))
            if on is not None and on.kind in ("uniform", "log_uniform"):
                rule = f"when: {name} must have single values, but it is {on}"
            elif not any(_may_be(value, on, values_of[name]) for value in values):
                theirs = str(on) if on is not None else ", ".join(map(str, values_of[name]))
                rule = (
                    f"when: {name} is never {' or '.join(map(str, values))}, but {theirs}, so "
                    "this would never be searched; correct it, or remove the domain"
                )
            else:
                continue
            yield Diagnostic(document.place(path), dotted(path), rule)

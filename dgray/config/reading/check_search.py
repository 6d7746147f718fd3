"""Rules on what a search may look at, and on the conditions of its domains."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dgray.config.data import MixtureData
from dgray.config.reading.check_kinds import METRICS_OF_IMAGES, METRICS_OF_POINTS
from dgray.config.reading.domains import Domain, Value
from dgray.config.reading.finding import Finding
from dgray.config.reading.problem import FieldPath, Problem, dotted
from dgray.config.reading.schema import all_fields, nearest
from dgray.config.reading.yaml_source import Document
from dgray.config.search import COSTS, FLOW, OptunaSearch
from dgray.config.study import StudyConfig

_METRICS: FieldPath = ("evaluate", "metrics")
_KIND: FieldPath = ("data", "kind")


def check_search(config: StudyConfig) -> Iterator[Finding]:
    """Metrics that this study does not measure, so that no point would have them."""
    search = config.search
    if not isinstance(search, OptunaSearch):
        return
    is_of_points = isinstance(config.data, MixtureData)
    wanted = [("metrics", name) for name in search.metrics]
    wanted += [("constraints", name) for name in search.constraints]
    for part, name in wanted:
        if name in COSTS or name == "path_kl_change":
            continue
        path: FieldPath = ("search", part)
        if name in (METRICS_OF_IMAGES if is_of_points else METRICS_OF_POINTS):
            rule = (
                f"'{name}' needs images, and this study's are points; use path_kl_change, kl or "
                "kl_sde"
                if is_of_points
                else f"'{name}' needs data of known density, which images are not; use "
                "path_kl_change, nll, fid or fd"
            )
            yield Finding(path=path, reads=(_KIND,), rule=rule)
            continue
        measured = ("kl" if is_of_points else "nll") if name == "kl_change" else name
        if measured not in config.evaluate.metrics:
            rule = (
                f"'{name}' must be measured on held-out data too, to see what choosing by it "
                f"flatters; add '{measured}' to evaluate.metrics, which is "
                f"{list(config.evaluate.metrics)}"
            )
            yield Finding(path=path, reads=(_METRICS,), rule=rule)
    names = {name for _, name in wanted}
    if "kl_sde" in names and (of_flow := sorted(names & set(FLOW))):
        yield Finding(
            path=("search", "metrics"),
            reads=(),
            rule=f"'kl_sde' is of a stochastic sampler and {', '.join(of_flow)} of the "
            "deterministic one, and all values of a point are of one setting; leave one out",
        )


def unknown_conditions(
    document: Document, domains: Mapping[FieldPath, Domain]
) -> Iterator[Problem]:
    """Conditions on fields that there are not."""
    known = set(all_fields())
    for path, domain in domains.items():
        for name in domain.when or ():
            if name not in known:
                near = nearest(name, known)
                hint = f"; did you mean {near!r}?" if near else ""
                rule = f"when: there is no field {name!r}{hint}"
                yield Problem(document.place(path), dotted(path), rule)


def _may_be(value: Value, domain: Domain | None, values: Collection[object]) -> bool:
    """Whether a field, perhaps a domain itself, may have a value."""
    if domain is None or domain.kind == "choice":
        return value in values
    return isinstance(value, int) and domain.low <= value <= domain.high


def impossible_conditions(
    document: Document,
    domains: Mapping[FieldPath, Domain],
    values_of: Mapping[str, Collection[object]],
) -> Iterator[Problem]:
    """Conditions that no trial meets; ``values_of``: what each of their fields may be."""
    for path, domain in domains.items():
        for name, wanted in (domain.when or {}).items():
            on = domains.get(tuple(name.split(".")))
            if on is not None and on.kind in ("uniform", "log_uniform"):
                rule = f"when: {name} must have single values, but it is {on}"
            elif not any(_may_be(value, on, values_of[name]) for value in wanted):
                theirs = str(on) if on is not None else ", ".join(map(str, values_of[name]))
                rule = (
                    f"when: {name} is never {' or '.join(map(str, wanted))}, but {theirs}, so "
                    "this would never be searched; correct it, or remove the domain"
                )
            else:
                continue
            yield Problem(document.place(path), dotted(path), rule)

"""Names of trials, as ``kl num_real=100 width=64``, and selection of a trial by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dgray.errors import NoSuchModelError, one_line

_BETWEEN_TERMS = re.compile(r",\s*(?![^\[{(]*[\]})])|\s+(?=[A-Za-z_][\w.]*=)")
_MAX_NAMED = 20  # trials in a message


def name_of(label: str) -> str:
    """Return the name of a trial: its objective and ``field=value`` of its axes."""
    return " ".join(f"{field}={value}" if field else value for field, value in _terms(label))


def find_trial(labels: Mapping[str, str], text: str) -> str:
    """Return the id of the one trial that a text selects.

    Args:
        labels: label of each trial by id.
        text: an id, the beginning of one or of its hash, a label, a name, or enough of a name:
            terms of it in any order, such as ``kl width=64``; a field may be written with its
            section.

    Raises:
        NoSuchModelError: no trial or several trials match.
    """
    if text in labels:
        return text
    terms = _terms(text)
    exact = [trial for trial, label in labels.items() if sorted(_terms(label)) == sorted(terms)]
    partial = [trial for trial, label in labels.items() if _has_terms(_terms(label), terms)]
    starts = {trial: (trial, trial.rpartition("-")[2]) for trial in labels}
    by_id = [trial for trial in labels if text and any(s.startswith(text) for s in starts[trial])]
    matches = next((group for group in (exact, by_id, partial) if len(group) == 1), None)
    if matches is None:
        candidates = sorted({*exact, *by_id, *partial}, key=list(labels).index)
        raise NoSuchModelError(_no_single_trial(labels, text, candidates))
    return matches[0]


def _no_single_trial(labels: Mapping[str, str], text: str, matches: list[str]) -> str:
    shown = matches or list(labels)
    names = [f"{name_of(labels[trial])} ({trial})" for trial in shown[:_MAX_NAMED]]
    if len(shown) > len(names):
        names.append(f"{len(shown) - len(names)} more")
    count = f"matches {len(matches)}:" if matches else "matches none; there are"
    return (
        "a trial is selected by its name or the beginning of its id or hash, but "
        f"{one_line(text, 80)!r} {count} {'; '.join(names)}"
    )


def _terms(text: str) -> list[tuple[str, str]]:
    """Return (field, value) of each term of a label or a name; the objective has no field."""
    terms = []
    for term in filter(None, map(str.strip, _BETWEEN_TERMS.split(text))):
        field, equals, value = term.partition("=")
        if not equals:
            field, _, value = term.partition(" ")
        if not value or not re.fullmatch(r"[A-Za-z_][\w.]*", field):
            field, value = "", term
        terms.append(("" if field.endswith("objective") else field, value.strip()))
    return terms


def _has_terms(label: list[tuple[str, str]], terms: list[tuple[str, str]]) -> bool:
    return bool(terms) and all(any(_agree(own, term) for own in label) for term in terms)


def _agree(own: tuple[str, str], term: tuple[str, str]) -> bool:
    """Return whether two terms are the same; one field may have a section that the other lacks."""
    fields, values = zip(own, term, strict=True)
    longer, shorter = sorted(fields, key=len, reverse=True)
    is_same_field = longer == shorter or bool(shorter and longer.endswith(f".{shorter}"))
    return is_same_field and (values[0] == values[1] or _number(values[0]) == _number(values[1]))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text

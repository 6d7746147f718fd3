"""Changes of a study that a run can take, and trials whose results or training states stay valid.

A run takes more values on every axis, other evaluation settings, metrics, checkpoints, replicates
and budgets, and more search points. A change of anything else would be another study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dgray.config.reading.load import Study
from dgray.config.reading.relevance import relevant_config
from dgray.config.study import StudyConfig
from dgray.plan.plan import Trial

# Fields that do not affect any metric: a run may be resumed with other values.
FREE_FIELDS = (
    "description",
    "question",
    "resources.max_concurrent_trials",
    "resources.max_failures",
    "resources.sampling_actors",
    "resources.result_cache",
    "resources.trial_time_limit",
    "resources.part_time_limit",
)
# Generated images round differently in batches of other sizes, and discriminators are trained on
# them.
_GENERATION = ("batch_size", "shard_size")
_FIXED = ("name", "seed")
_LENGTH = ("epochs", "checkpoints")  # of a training
_LONGER = ("fit.epochs", "budget.train_flops")  # a budget is a number of epochs of each trial
_LIMITS = ("search.num_trials", "search.time_budget")
ABSENT = "absent"  # value of a field that one of two studies lacks


@dataclass(frozen=True)
class Change:
    """Field of a study with another value than before.

    Attributes:
        field: dotted path.
        before: value in the run, or ``ABSENT``.
        now: value in the changed study, or ``ABSENT``.
    """

    field: str
    before: Any
    now: Any

    def __str__(self) -> str:
        before, now = _listed(self.before), _listed(self.now)
        added = [value for value in now if value not in before]
        dropped = [value for value in before if value not in now]
        is_list = isinstance(self.before, list) or isinstance(self.now, list)
        if not is_list or not (added or dropped) or (added and dropped):
            return f"{self.field}: {_text(self.before)} -> {_text(self.now)}"
        parts = [f"added {', '.join(map(_text, added))}"] if added else []
        parts += [f"without {', '.join(map(_text, dropped))}"] if dropped else []
        return f"{self.field}: {', '.join(parts)}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the fields of a study by dotted path."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the fields with other values, without those that affect no metric.

    Args:
        before: fields of the run by dotted path.
        now: fields of the changed study.
    """
    return [
        Change(field, before.get(field, ABSENT), now.get(field, ABSENT))
        for field in dict.fromkeys([*now, *before])
        if field not in FREE_FIELDS and before.get(field, ABSENT) != now.get(field, ABSENT)
    ]


def refusals(before: Study, now: Study, changed: Collection[Change]) -> Iterator[str]:
    """Yield why a run cannot take changes of its study, each with both values."""
    for change in changed:
        reason = _refusal(change, before, now)
        if reason is not None:
            values = f"{_text(change.before)} there, {_text(change.now)} here"
            yield f"{change.field}: {values}{reason and f' ({reason})'}"


def training_key(trial: Trial) -> str | None:
    """Return a digest of what determines the training states of a trial; None for controls.

    The number of replicates is a part of it: they are trained as one ensemble, and matrix
    products of other ensembles round differently.
    """
    if not trial.is_trained:
        return None
    values = _without_length(trial)
    evaluate = values.pop("evaluate")
    return _digest(values | {name: evaluate.get(name) for name in _GENERATION})


def checkpoint_key(trial: Trial) -> str:
    """Return a digest of what determines the rows of a checkpoint, its epoch apart."""
    return _digest(_without_length(trial))


def _without_length(trial: Trial) -> dict[str, Any]:
    """Return the relevant configuration without checkpoints and, if possible, epochs."""
    values = relevant_config(trial.config, trial.objective)
    if trial.is_trained:
        for name in _LENGTH:
            if name == "checkpoints" or not _is_cosine(trial.config):
                values["fit"].pop(name, None)
    return {**values, "objective": trial.objective}


def _refusal(change: Change, before: Study, now: Study) -> str | None:
    """Return why a change is refused, perhaps an empty text; None if a run can take it."""
    field = change.field
    section, _, name = field.partition(".")
    if field in _FIXED:
        return ""
    is_generation = section == "evaluate" and name in _GENERATION
    if is_generation and any(map(_has_images, _configs(before, now))):
        return ""
    if section == "evaluate" or field in ("replicates", "fit.checkpoints"):
        return None
    if field in _LIMITS:
        return None if _limit(change.now) >= _limit(change.before) else "it can only be raised"
    if field in _LONGER and not any(map(_is_cosine, _configs(before, now))):
        return None
    if section in ("search", "resources"):
        return ""
    values = [_values(study, field) for study in (before, now)]
    first, second = ({repr(value) for value in of_study} for of_study in values)
    if first <= second or second <= first:
        return None
    if field in _LONGER:
        return "the learning rate decays along a cosine to the last epoch"
    if ABSENT in (values[0][0], values[1][0]):
        return ""
    every = [*values[0], *(value for value in values[1] if value not in values[0])]
    return f"to add values, keep the others: {_text(every)}"


def _values(study: Study, field: str) -> list[Any]:
    """Return the values of an axis, or the only value of another field."""
    value = flat(study.raw).get(field, ABSENT)
    return value if field in study.axes and isinstance(value, list) else [value]


def _configs(*studies: Study) -> list[StudyConfig]:
    return [assignment.config for study in studies for assignment in study.configs]


def _is_cosine(config: StudyConfig) -> bool:
    return config.fit.learning_rate_decay == "cosine"


def _has_images(config: StudyConfig) -> bool:
    return config.data.sample_kind == "images"


def _limit(value: float | None) -> float:
    return float("inf") if value is None else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

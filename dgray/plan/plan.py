"""The plan of a study: its trials, their identifiers and the settings that they are evaluated at.

A trial is one training configuration. Its id is a hash of the fields that can change its rows
(``dgray.config.reading.relevance``), so that nothing is trained twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgray.config.evaluation import Evaluate
from dgray.config.parts import BASE
from dgray.config.reading.diagnostics import Diagnostic
from dgray.config.reading.load import Assignment, Study
from dgray.config.reading.relevance import irrelevant_fields, matters, relevant_config
from dgray.config.study import StudyConfig
from dgray.errors import StudyError
from dgray.plan.budget import check_budget, within_budget

MAX_DIGITS = 8  # of a number in a label; numbers of a search have sixteen


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One combination of the evaluation axes."""

    guidance_weight: float | None  # None: calibrated
    sampler: str
    num_steps: int
    interval: tuple[float, float] | None  # range of sigma in which guidance acts; None: everywhere
    guided_stage: str

    @property
    def is_calibrated(self) -> bool:
        """True if the guidance weight is the calibrated function of sigma, not a constant."""
        return self.guidance_weight is None

    def columns(self) -> dict[str, Any]:
        """Return the values of the columns ``SETTING_COLUMNS`` of a row."""
        low, high = self.interval or (None, None)
        return {
            "is_calibrated": self.is_calibrated,
            "guidance_weight": self.guidance_weight,
            "sampler": self.sampler,
            "num_steps": self.num_steps,
            "guided_stage": self.guided_stage,
            "interval_low": low,
            "interval_high": high,
        }

    @classmethod
    def from_columns(cls, row: Mapping[str, Any]) -> Setting:
        """Return the setting that a row holds, the inverse of ``columns``; nan counts as None."""
        low, high = (_number(row[name]) for name in ("interval_low", "interval_high"))
        return cls(
            guidance_weight=None if row["is_calibrated"] else float(row["guidance_weight"]),
            sampler=str(row["sampler"]),
            num_steps=int(row["num_steps"]),
            interval=None if low is None or high is None else (low, high),
            guided_stage=str(row["guided_stage"]),
        )


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training configuration, or the base, or a control, with its checkpoints and settings."""

    id: str  # objective and hash of the fields that affect its rows
    label: str  # "cross_entropy, width 64, num_real 100"
    objective: str  # "base" or ``StudyConfig.method``
    axes: Mapping[str, Any]  # training axes that vary and affect it: dotted path -> value
    config: StudyConfig
    epochs: tuple[int, ...]  # checkpoints; (0,) for base and controls
    replicates: int  # 1 for base and controls
    settings: tuple[Setting, ...]  # evaluated for every (replicate, checkpoint)

    @property
    def is_trained(self) -> bool:
        """True if a correction is trained; false for base and controls."""
        return self.objective != BASE and self.config.is_trained

    @property
    def correction(self) -> str:
        """Name of its correction; ``base`` for the base."""
        return BASE if self.objective == BASE else self.config.correction.name


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Amount of work of some trials."""

    trials: int
    trainings: int  # discriminators trained: trials x replicates
    checkpoints: int
    evaluations: int  # (checkpoint, setting) pairs
    rows: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trials of a study, in the order in which they are run."""

    study: Study
    trials: tuple[Trial, ...]  # base, controls, then trained; no id twice, none of a search

    @property
    def counts(self) -> Counts:
        """Totals over its trials."""
        return counts_of(self.trials)


def counts_of(trials: Sequence[Trial]) -> Counts:
    """Return the totals over some trials."""
    cells = [(len(t.epochs) * len(t.settings), t.replicates) for t in trials]
    return Counts(
        trials=len(trials),
        trainings=sum(t.replicates for t in trials if t.is_trained),
        checkpoints=sum(len(t.epochs) for t in trials),
        evaluations=sum(cell for cell, _ in cells),
        rows=sum(cell * replicates for cell, replicates in cells),
    )


def make_plan(study: Study) -> Plan:
    """Return the plan of a study.

    Raises:
        StudyError: if a budget is impossible, or two trials have the same id by accident.
    """
    varying = {path: values for path, values in study.axes.items() if len(values) > 1}
    identities: dict[str, str] = {}
    by_id: dict[str, Trial] = {}
    check_budget(study)
    for objective, assignment in _ordered(study):
        config = assignment.config
        if objective != BASE:
            config = within_budget(config)
        axes = _axes_of(assignment, objective, varying)
        identity = json.dumps(
            relevant_config(config, objective), sort_keys=True, separators=(",", ":")
        )
        trial = build_trial(objective, axes, config, identity)
        if identities.setdefault(trial.id, identity) != identity:
            rule = f"two trials have the id {trial.id}, by a rare accident; use another seed"
            raise StudyError([Diagnostic(study.place("seed"), "seed", rule)])
        by_id.setdefault(trial.id, trial)
    return Plan(study=study, trials=tuple(by_id.values()))


def searched_assignments(study: Study) -> list[Assignment]:
    """Return the combinations of the axes that have a search: those that train."""
    if not study.domains:
        return []
    searched = is_method_searched(study)
    return [a for a in study.configs if searched or a.config.is_trained]


def is_method_searched(study: Study) -> bool:
    """Return whether a search chooses the correction or its objective."""
    return ("fit", "objective") in study.domains or ("correction", "kind") in study.domains


def _ordered(study: Study) -> Iterator[tuple[str, Assignment]]:
    """Yield base trials of every combination, then controls, then trained ones."""
    yield from ((BASE, assignment) for assignment in study.configs)
    searched = searched_assignments(study)
    for is_trained in (False, True):
        for assignment in study.configs:
            config = assignment.config
            if assignment not in searched and config.is_trained == is_trained:
                yield config.method, assignment


def build_trial(
    objective: str, axes: Mapping[str, Any], config: StudyConfig, identity: str
) -> Trial:
    """Return a trial with its checkpoints and settings; ``identity``: the text that is hashed."""
    is_trained = objective != BASE and config.is_trained
    return Trial(
        id=f"{objective}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}",
        label=label_of(objective, axes),
        objective=objective,
        axes=axes,
        config=config,
        epochs=config.fit.checkpoint_epochs if is_trained else (0,),
        replicates=config.replicates if is_trained else 1,
        settings=_base_settings(config.evaluate) if objective == BASE else _settings(config),
    )


def _axes_of(
    assignment: Assignment, objective: str, varying: Mapping[str, object]
) -> dict[str, Any]:
    """Return the values on the axes that vary in the study and affect this trial."""
    irrelevant = irrelevant_fields(assignment.config, objective)
    return {
        path: value
        for path, value in assignment.axes.items()
        if path in varying and matters(tuple(path.split(".")), irrelevant)
    }


def label_of(objective: str, axes: Mapping[str, Any]) -> str:
    """Return the label of a trial: objective and axes, by the last part of a path if unique."""
    names = [path.rpartition(".")[2] for path in axes]
    parts = [objective]
    for path, value in axes.items():
        name = path.rpartition(".")[2]
        text = list(value) if isinstance(value, tuple) else value
        if isinstance(value, float) and len(str(value)) > MAX_DIGITS:
            text = f"{value:.4g}"
        if path not in ("fit.objective", "correction.kind"):
            parts.append(f"{name if names.count(name) == 1 else path} {text}")
    return ", ".join(parts)


def _base_settings(evaluate: Evaluate) -> tuple[Setting, ...]:
    """Return the settings of the unguided model: every sampler."""
    return tuple(
        Setting(
            guidance_weight=0.0,
            sampler=sampler,
            num_steps=num_steps,
            interval=None,
            guided_stage="both",
        )
        for sampler, num_steps in itertools.product(evaluate.sampler_names, evaluate.num_steps)
    )


def _settings(config: StudyConfig) -> tuple[Setting, ...]:
    """Return the combinations of the evaluation axes that differ; weights vary fastest.

    Weight 0 is left out: that is the base trial.
    """
    evaluate, is_selection = config.evaluate, config.correction.spec.is_sampler
    cells = itertools.product(
        evaluate.sampler,
        evaluate.num_steps,
        evaluate.guidance_interval,
        evaluate.guided_stage,
        evaluate.guidance_weight,
    )
    settings = (
        Setting(
            guidance_weight=None if weight == "calibrated" else weight,
            sampler=sampler.name,
            num_steps=num_steps,
            interval=interval,
            guided_stage=stage if sampler.spec.is_two_stage and not is_selection else "both",
        )
        for sampler, num_steps, interval, stage, weight in cells
        if weight != 0
    )
    return tuple(dict.fromkeys(settings))

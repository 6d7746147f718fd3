"""Tables of a plan: axes, trials, searches and totals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dgray.config.parts import BASE
from dgray.plan.cost import CostEstimate, duration
from dgray.plan.plan import Plan, Setting, Trial, counts_of
from dgray.reporting.trial_names import name_of

MAX_TRIALS_SHOWN = 40
_NUMBERS = ("rows", "trials", "time", "number")


def render_plan(plan: Plan, estimate: CostEstimate) -> RenderableType:
    """Return the tables of a plan with its resources, estimated time and disk space."""
    study = plan.study
    parts: list[RenderableType] = [Text(f"study {study.name}", style="bold")]
    if study.description:
        parts.append(Text(study.description))
    parts += [_axes_table(plan, estimate), _trials_table(plan, estimate)]
    if estimate.searches:
        parts.append(_searches_table(estimate))
    return Group(*parts, _totals_table(plan, estimate))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        is_number = column in _NUMBERS
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return table


def _axes_table(plan: Plan, estimate: CostEstimate) -> Table:
    table = _table("axes", "field", "values", "kind")
    for path, values in plan.study.axes.items():
        table.add_row(path, _joined(values), "training")
    for domain in plan.study.domains.values():
        table.add_row(domain.name, str(domain), "searched")
    guided = [trial for trial in plan.trials if trial.objective != BASE]
    guided += [search.trial for search in estimate.searches]
    epochs = {epoch for trial in guided if trial.is_trained for epoch in trial.epochs}
    if epochs:
        table.add_row("fit.checkpoints", _joined(sorted(epochs)), "epochs")
    for name, values in _evaluation_axes(guided).items():
        table.add_row(f"evaluate.{name}", _joined(values), "evaluation")
    return table


def _evaluation_axes(trials: Iterable[Trial]) -> Mapping[str, tuple[Any, ...]]:
    """Return the values of each field over the settings of guided trials."""
    settings = [setting for trial in trials for setting in trial.settings]
    columns: dict[str, list[Any]] = {
        "guidance_weight": [_weight(setting) for setting in settings],
        "sampler": [setting.sampler for setting in settings],
        "num_steps": [setting.num_steps for setting in settings],
        "guidance_interval": [_interval(setting) for setting in settings],
        "guided_stage": [setting.guided_stage for setting in settings],
    }
    return {name: tuple(dict.fromkeys(values)) for name, values in columns.items()}


def _weight(setting: Setting) -> str:
    return "calibrated" if setting.guidance_weight is None else f"{setting.guidance_weight:g}"


def _interval(setting: Setting) -> str:
    if setting.interval is None:
        return "everywhere"
    return f"[{setting.interval[0]:g}, {setting.interval[1]:g}]"


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(list(v)) if isinstance(v, tuple) else str(v) for v in values)


def _trials_table(plan: Plan, estimate: CostEstimate) -> Table:
    title = "trials (rows = replicates x checkpoints x settings)"
    table = _table(title, "trial", "rows", "time")
    shown = list(zip(plan.trials, estimate.trial_seconds, strict=True))[:MAX_TRIALS_SHOWN]
    for trial, seconds in shown:
        counts = (trial.replicates, len(trial.epochs), len(trial.settings))
        rows = f"{math.prod(counts)} = {' x '.join(map(str, counts))}"
        has_budget = trial.config.budget.train_flops is not None and trial.is_trained
        name = name_of(trial.label)
        text = f"{name} ({trial.epochs[-1]} epochs)" if has_budget else name
        table.add_row(text, rows, duration(seconds))
    if (hidden := len(plan.trials) - len(shown)) > 0:
        table.add_row(f"and {hidden} more")
    return table


def _searches_table(estimate: CostEstimate) -> Table:
    table = _table("searches (time of a trial with mid-range values)", "search", "trials", "time")
    for search in estimate.searches:
        number = "until time_budget ends" if search.num_trials is None else str(search.num_trials)
        table.add_row(search.label, number, f"{duration(search.trial_seconds)} each")
    return table


def _totals_table(plan: Plan, estimate: CostEstimate) -> Table:
    searched = [s.trial for s in estimate.searches for _ in range(s.num_trials or 0)]
    counts, resources = counts_of((*plan.trials, *searched)), plan.trials[0].config.resources
    table = _table("totals", "what", "number")
    table.show_header = False
    table.add_row("trials", str(counts.trials))
    table.add_row("networks trained", str(counts.trainings))
    table.add_row("checkpoints", str(counts.checkpoints))
    table.add_row("evaluations", str(counts.evaluations))
    table.add_row("rows", str(counts.rows))
    table.add_row("CPUs per trial", str(resources.cpus_per_trial))
    table.add_row("GPUs per trial", f"{resources.gpus_per_trial:g}")
    table.add_row("trials at a time", str(estimate.parallel_trials))
    where = f" with {estimate.gpus} GPU{'s' * (estimate.gpus > 1)}" if estimate.gpus else ""
    table.add_row(f"estimated time{where}", duration(estimate.wall_seconds))
    if estimate.gpu_seconds:
        table.add_row("GPU hours, at the speed of an A100", f"{estimate.gpu_seconds / 3600:.3g}")
    table.add_row("estimated disk", f"{estimate.disk_bytes / 1e6:.0f} MB")
    return table

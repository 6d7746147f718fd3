"""Notices about a plan: possible surprises, each with the change that avoids it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dgray.catalogue import CORRECTIONS, OBJECTIVES, SAMPLERS
from dgray.config.bases import NetworkBase, TrainedBase
from dgray.config.reading.load import Study
from dgray.config.search import OptunaSearch
from dgray.config.study import StudyConfig
from dgray.plan.cost import CostEstimate, base_seconds, duration
from dgray.plan.plan import Plan, Trial
from dgray.plan.survey import sample_shape
from dgray.plan.work import uses_unet

LONG_HOURS = 6.0  # of a study, above which a notice states what takes the time
NUMERICAL = ("cmaes", "qmc")  # samplers of Optuna that suggest no categories
JOINT = ("cmaes", "qmc", "gp")  # samplers that suggest only the fields of every point
_OWNERS: Mapping[str, Iterable[Any]] = {  # parts whose options are fields of a section
    "correction": CORRECTIONS,
    "fit": OBJECTIVES,
    "evaluate": SAMPLERS,
}
# A smaller U-Net, with which images of 16 pixels take eight minutes on a core.
SMALL_UNET = {"width": 16, "depth": 1, "steps": 1200, "batch_size": 64, "learning_rate": 2e-3}


def notices(plan: Plan, estimate: CostEstimate) -> list[str]:
    """Return the notices of a plan, each one line."""
    trials = [*plan.trials, *(search.trial for search in estimate.searches)]
    lines = [notice for trial in trials for notice in _of_config(trial.config)]
    lines += _of_unread(plan.study)
    lines += _of_search(plan)
    lines += _of_gpus(plan.trials[0].config)
    lines += _of_time(plan, estimate)
    return list(dict.fromkeys(lines))


def visible_gpus() -> int:
    """Return the number of NVIDIA GPUs that a process of this machine can use."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices is not None:
        return len([device for device in devices.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*/information")))


def _of_config(config: StudyConfig) -> Iterator[str]:
    fit, evaluate = config.fit, config.evaluate
    last = fit.checkpoint_epochs[-1]
    if fit.objective.spec.is_trained and last < fit.epochs:
        yield (
            f"fit.epochs: training ends at the last checkpoint, epoch {last} of {fit.epochs}; add "
            f"{fit.epochs} to fit.checkpoints to evaluate it"
        )
    is_image = config.data.sample_kind == "images"
    dimension = evaluate.features_spec.dimension
    if is_image and dimension and evaluate.has_metric(source="features", needs_moments_only=True):
        sizes = {"evaluate.num_samples": evaluate.num_samples}
        if evaluate.reference == "held_out":
            sizes["data.num_held_out"] = config.data.num_held_out
        few = [f"{field} {size}" for field, size in sizes.items() if size <= dimension]
        if few:
            yield (
                f"{' and '.join(few)}: so few images determine no covariance of {dimension} "
                f"features, and the Fréchet distance is biased upwards; use more than "
                f"{dimension}, or compare distances of equal numbers only"
            )


def _of_unread(study: Study) -> Iterator[str]:
    """Yield the fields that no trial reads; those of some parts only, with their parts."""
    others = []
    for field in study.unread:
        section, option = field.split(".")[:2] if "." in field else ("", field)
        owners = [spec.name for spec in _OWNERS.get(section, ()) if option in spec.options]
        if field == "fit.objective":
            owners = [spec.name for spec in CORRECTIONS if spec.needs_discriminator]
        if owners:
            yield f"{field}: read by {', '.join(owners)} only, which no trial uses; remove it"
        else:
            others.append(field)
    if others:
        end = "it" if len(others) == 1 else "them"
        yield f"{', '.join(others)}: read by no trial; remove {end}"


def _of_search(plan: Plan) -> Iterator[str]:
    search = plan.trials[0].config.search
    domains = plan.study.domains.values()
    if not isinstance(search, OptunaSearch) or not domains:
        return
    name = search.sampler.name
    categories = [domain.name for domain in domains if domain.kind == "choice"]
    conditional = [domain.name for domain in domains if domain.when]
    others = "use tpe to search them too"
    if name in NUMERICAL and categories:
        yield (
            f"search.sampler: {name} searches numbers only, so {', '.join(categories)} will be "
            f"drawn at random; {others}, or make them axes"
        )
    if name in JOINT and conditional:
        yield (
            f"search.sampler: {name} searches only fields that every point has, so "
            f"{', '.join(conditional)} will be drawn at random; {others}"
        )
    joint = [domain for domain in domains if domain.kind != "choice" and not domain.when]
    if name == "cmaes" and len(joint) < 2:
        yield (
            f"search.sampler: cmaes needs two numbers to search, but there "
            f"{'is one' if joint else 'is none'}, so every point will be drawn at random; use tpe "
            "or gp"
        )


def _of_gpus(config: StudyConfig) -> Iterator[str]:
    resources = config.resources
    has_actors = resources.sampling_actors and config.data.sample_kind == "images"
    actors = resources.gpus_per_actor if has_actors else 0.0
    needed = max(resources.gpus_per_trial, actors)
    if needed > 0 and "RAY_ADDRESS" not in os.environ and visible_gpus() == 0:
        yield (
            f"resources: the study needs GPUs ({needed:g} per process), but this machine has "
            "none; start it on a machine with GPUs, set RAY_ADDRESS to a cluster with GPUs, or "
            "set gpus_per_trial and gpus_per_actor to 0"
        )


def _of_time(plan: Plan, estimate: CostEstimate) -> Iterator[str]:
    """Yield the parts that take most of the time of a study of many hours."""
    hours = estimate.wall_seconds / 3600
    if hours < LONG_HOURS:
        return
    points = (s.trial_seconds for s in estimate.searches for _ in range(s.num_trials or 1))
    times = [*estimate.trial_seconds, *points]
    trials = max(sum(times) / estimate.parallel_trials, *times) / 3600
    if trials > hours / 2:
        has_budget = plan.trials[0].config.budget.train_flops is not None
        length = "budget.train_flops" if has_budget else "fit.epochs"
        yield (
            f"time: the trials take about {trials:.0f} of {hours:.0f} hours; lower "
            f"evaluate.num_samples, evaluate.num_points, {length} or the sizes of the networks, "
            "or use more CPUs or GPUs"
        )
    by_hours = sorted(((base_seconds(t), t) for t in plan.trials), key=lambda p: -p[0])
    seconds, trial = by_hours[0]
    if seconds > estimate.wall_seconds / 4:
        yield _of_base(trial, seconds)


def _of_base(trial: Trial, seconds: float) -> str:
    base = trial.config.base
    text = f"base: its training and samples take about {seconds / 3600:.0f} hours"
    end = "or use GPUs (resources.gpus_per_trial)"
    if not isinstance(base, TrainedBase) or not uses_unet(base, sample_shape(trial.config.data)):
        return f"{text}; lower base.num_generated or base.generation_steps, {end}"
    smaller = SMALL_UNET | {"num_generated": min(base.num_generated, trial.config.data.num_real)}
    fields = {n: v for n, v in smaller.items() if getattr(base, n) > v or n == "learning_rate"}
    less = _with_base(trial, base.model_copy(update=fields))
    changes = ", ".join(f"{name}: {value:g}" for name, value in fields.items())
    return f"{text}; base: {{{changes}}} would take {duration(base_seconds(less))}, {end}"


def _with_base(trial: Trial, base: NetworkBase) -> Trial:
    return replace(trial, config=trial.config.model_copy(update={"base": base}))

"""Rules on values of single settings that refer to others: sampling, noise levels, resources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dgray.config.reading.diagnostics import Conflict, FieldPath
from dgray.config.study import StudyConfig
from dgray.credentials import has_credentials


def check_settings(config: StudyConfig) -> Iterator[Conflict]:
    """Yield the rules on settings that a configuration breaks."""
    for rule in _RULES:
        yield from rule(config)


def _evaluation(config: StudyConfig) -> Iterator[Conflict]:
    evaluate, diffusion = config.evaluate, config.diffusion
    if evaluate.has_metric(source="flow") and evaluate.num_points > config.data.num_held_out:
        yield Conflict(
            path=("evaluate", "num_points"),
            reads=(("data", "num_held_out"),),
            rule=f"must be <= data.num_held_out, but got {evaluate.num_points} > "
            f"{config.data.num_held_out}",
        )
    low, high = diffusion.sigma_min, diffusion.sigma_max
    for interval in evaluate.guidance_interval:
        if interval is not None and (interval[1] < low or interval[0] > high):
            yield Conflict(
                path=("evaluate", "guidance_interval"),
                reads=(("diffusion", "sigma_min"), ("diffusion", "sigma_max")),
                rule=f"must overlap the noise levels of the diffusion, [{low:g}, {high:g}], but "
                f"got {list(interval)}",
            )
    if all(weight == 0 for weight in evaluate.guidance_weight):
        yield Conflict(
            path=("evaluate", "guidance_weight"),
            reads=(),
            rule="must have a weight other than 0: the unguided base is always evaluated, but "
            f"got {list(evaluate.guidance_weight)}",
        )
    if not evaluate.churn.S_min <= evaluate.churn.S_max:
        yield Conflict(
            path=("evaluate", "churn", "S_min"),
            reads=(("evaluate", "churn", "S_max"),),
            rule=f"must be <= S_max, but got {evaluate.churn.S_min:g} > {evaluate.churn.S_max:g}",
        )


def _restarts(config: StudyConfig) -> Iterator[Conflict]:
    """Restart intervals outside of the noise levels, for studies that use them."""
    low, high = config.diffusion.sigma_min, config.diffusion.sigma_max
    if not any("restart" in sampler.spec.options for sampler in config.evaluate.sampler):
        return
    for interval in config.evaluate.restart.levels:
        if interval[0] < low or interval[1] > high:
            yield Conflict(
                path=("evaluate", "restart", "levels"),
                reads=(
                    ("diffusion", "sigma_min"),
                    ("diffusion", "sigma_max"),
                    ("evaluate", "sampler"),
                ),
                rule=f"must be within the noise levels of the diffusion, [{low:g}, {high:g}], but "
                f"got {list(interval)}",
            )


def _noise(config: StudyConfig) -> Iterator[Conflict]:
    """Training may cover more noise levels than sampling, as in Kim et al. 2023, but no others."""
    noise, diffusion = config.fit.noise, config.diffusion
    low, high = diffusion.sigma_min, diffusion.sigma_max
    limits = f"[{low:g}, {high:g}]"
    for name, value, is_apart in (
        ("low", noise.low, noise.low is not None and noise.low >= high),
        ("high", noise.high, noise.high is not None and noise.high <= low),
    ):
        if is_apart:
            yield Conflict(
                path=("fit", "noise", name),
                reads=(("diffusion", "sigma_min"), ("diffusion", "sigma_max")),
                rule=f"[low, high] must overlap the noise levels of the diffusion, {limits}, but "
                f"{name} is {value:g}",
            )


def _resources(config: StudyConfig) -> Iterator[Conflict]:
    resources = config.resources
    fields = [("gpus_per_trial", resources.gpus_per_trial)]
    if resources.sampling_actors and config.data.sample_kind == "images":
        fields.append(("gpus_per_actor", resources.gpus_per_actor))
    for name, gpus in fields:
        if resources.device == "cpu" and gpus > 0:
            end = f"be 0 with resources.device 'cpu', but got {gpus:g}; or use 'auto' or 'cuda'"
        elif resources.device == "cuda" and gpus == 0:
            end = "be > 0 with resources.device 'cuda', but got 0; or use 'auto' or 'cpu'"
        else:
            continue
        yield Conflict(
            path=("resources", name), reads=(("resources", "device"),), rule=f"must {end}"
        )


def _result_cache(config: StudyConfig) -> Iterator[Conflict]:
    place = config.resources.result_cache
    if place is not None and "://" in place:
        rule = f"must be a folder of the driver's machine, or a shared one, but got {place}"
        yield Conflict(path=("resources", "result_cache"), reads=(), rule=rule)


def _credentials(config: StudyConfig) -> Iterator[Conflict]:
    """Addresses with credentials, because the study is copied into the run folder."""
    for path, text in _texts(config.model_dump(mode="json"), ()):
        if has_credentials(text):
            yield Conflict(
                path=path,
                reads=(),
                rule="an address must not carry credentials (a user, password, signature or "
                "token), which would be copied into the run folder; name a file instead",
            )


def _texts(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for name, entry in value.items():
                yield from _texts(entry, (*path, name))
        case list():
            for entry in value:
                yield from _texts(entry, path)


_RULES: tuple[Callable[[StudyConfig], Iterator[Conflict]], ...] = (
    _evaluation,
    _restarts,
    _noise,
    _resources,
    _result_cache,
    _credentials,
)

"""Rules between fields that no single section can state: impossible combinations and fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dgray.config.data import MIXTURE_DIMENSIONS, Components, MixtureData, WrongMixture
from dgray.config.image_data import DigitsData, GlyphsData, ImageFiles
from dgray.config.reading.check_kinds import check_kinds
from dgray.config.reading.check_search import check_search
from dgray.config.reading.finding import Finding
from dgray.config.reading.problem import FieldPath
from dgray.config.reading.relevance import WITH_GENERATED
from dgray.config.study import StudyConfig
from dgray.credentials import has_credentials

MAX_KL_SDE_DIMENSION = 4  # nearest-neighbour divergences are biased beyond
MAX_MEMORISATION_DIMENSION = 2
STOCHASTIC_SAMPLERS = ("churn", "sde")
_METRICS_OF_FLOW = ("kl", "kl_sampler")  # of the probability-flow ODE and its discretisation


_DATA: tuple[FieldPath, ...] = (("data", "name"), ("data", "components"))
_METRICS: FieldPath = ("evaluate", "metrics")
_SAMPLER: FieldPath = ("evaluate", "sampler")
_OBJECTIVE: FieldPath = ("fit", "objective")


def mixture_dimension(name: str | None, components: Components | None) -> int | None:
    """Dimension d of a named or written-out mixture; ``None`` when neither is given."""
    if components is not None:
        return len(components.means[0])
    return MIXTURE_DIMENSIONS[name] if name is not None else None


def data_dimension(config: StudyConfig) -> int:
    """Dimension d of the data; of files of unknown size that of CIFAR-10."""
    data = config.data
    if isinstance(data, MixtureData):
        dimension = mixture_dimension(data.name, data.components)
        assert dimension is not None  # one of the two is given: a rule of MixtureData
        return dimension
    match data:
        case DigitsData():
            return 8 * 8
        case GlyphsData():
            return data.size**2
        case ImageFiles() if data.resize is not None:
            return 3 * data.resize**2
        case _:
            return 3 * 32 * 32


def check(config: StudyConfig) -> Iterator[Finding]:
    """Every impossible combination of one trial's configuration."""
    for rule in _RULES:
        yield from rule(config)


def _generated_samples(config: StudyConfig) -> Iterator[Finding]:
    objective = config.fit.objective
    if objective in WITH_GENERATED and config.base.num_generated == 0:
        yield Finding(
            path=("base", "num_generated"),
            reads=(_OBJECTIVE,),
            rule=f"must be > 0 for objective '{objective}', which compares real with generated "
            "samples, but got 0; raise it or use objective 'kl'",
        )


def _controls(config: StudyConfig) -> Iterator[Finding]:
    objective = config.fit.objective
    if objective in ("oracle", "oscillating") and config.base.kind == "trained":
        yield Finding(
            path=_OBJECTIVE,
            reads=(("base", "kind"),),
            rule=f"'{objective}' needs the exact log-ratio, and a base of kind 'trained' has no "
            "known density; use base.kind 'wrong_mixture' or another objective",
        )


MIN_NEIGHBOURS = 20  # points, so that each block of the jackknife leaves enough


def _metrics(config: StudyConfig) -> Iterator[Finding]:
    evaluate, dimension = config.evaluate, data_dimension(config)
    if not isinstance(config.data, MixtureData):
        return
    for metric, limit in (
        ("kl_sde", MAX_KL_SDE_DIMENSION),
        ("memorisation", MAX_MEMORISATION_DIMENSION),
    ):
        if metric in evaluate.metrics and dimension > limit:
            yield Finding(
                path=_METRICS,
                reads=_DATA,
                rule=f"'{metric}' needs data of at most {limit} dimensions, but the data has "
                f"{dimension}; remove it",
            )
    if "kl_sde" in evaluate.metrics and not set(STOCHASTIC_SAMPLERS) & set(evaluate.sampler):
        yield Finding(
            path=_METRICS,
            reads=(_SAMPLER,),
            rule="'kl_sde' needs a stochastic sampler; add 'sde' or 'churn' to evaluate.sampler, "
            f"which is {list(evaluate.sampler)}",
        )
    if "kl_sde" in evaluate.metrics:
        for path, size in (
            (("evaluate", "num_samples"), evaluate.num_samples),
            (("data", "num_held_out"), config.data.num_held_out),
        ):
            if size < MIN_NEIGHBOURS:
                yield Finding(
                    path=path,
                    reads=(_METRICS,),
                    rule=f"must be >= {MIN_NEIGHBOURS} for 'kl_sde', which looks at neighbours, "
                    f"but got {size}",
                )
    if "memorisation" in evaluate.metrics and config.data.num_held_out < config.data.num_real:
        yield Finding(
            path=("data", "num_held_out"),
            reads=(("data", "num_real"), _METRICS),
            rule="must be >= data.num_real for 'memorisation', which compares as many of either, "
            f"but got {config.data.num_held_out} < {config.data.num_real}",
        )
    of_flow = [repr(metric) for metric in _METRICS_OF_FLOW if metric in evaluate.metrics]
    if of_flow and "ode" not in evaluate.sampler:
        yield Finding(
            path=_METRICS,
            reads=(_SAMPLER,),
            rule=f"{' and '.join(of_flow)} need{'s' if len(of_flow) == 1 else ''} the "
            "deterministic sampler; add 'ode' to evaluate.sampler, which is "
            f"{list(evaluate.sampler)}, or give evaluate.metrics without {' and '.join(of_flow)}",
        )


def _evaluation(config: StudyConfig) -> Iterator[Finding]:
    evaluate, diffusion = config.evaluate, config.diffusion
    has_points = {"kl", "nll"} & set(evaluate.metrics)
    if has_points and evaluate.num_points > config.data.num_held_out:
        yield Finding(
            path=("evaluate", "num_points"),
            reads=(("data", "num_held_out"),),
            rule=f"must be <= data.num_held_out, but got {evaluate.num_points} > "
            f"{config.data.num_held_out}",
        )
    low, high = diffusion.sigma_min, diffusion.sigma_max
    for interval in evaluate.guidance_interval:
        if interval is not None and (interval[1] < low or interval[0] > high):
            yield Finding(
                path=("evaluate", "guidance_interval"),
                reads=(("diffusion", "sigma_min"), ("diffusion", "sigma_max")),
                rule=f"must overlap the noise levels of the diffusion, [{low:g}, {high:g}], but "
                f"got {list(interval)}",
            )
    if all(weight == 0 for weight in evaluate.guidance_weight):
        yield Finding(
            path=("evaluate", "guidance_weight"),
            reads=(),
            rule="must have a weight other than 0: the unguided base is always evaluated, but "
            f"got {list(evaluate.guidance_weight)}",
        )
    if not evaluate.churn.S_min <= evaluate.churn.S_max:
        yield Finding(
            path=("evaluate", "churn", "S_min"),
            reads=(("evaluate", "churn", "S_max"),),
            rule=f"must be <= S_max, but got {evaluate.churn.S_min:g} > {evaluate.churn.S_max:g}",
        )


def _base_dimension(config: StudyConfig) -> Iterator[Finding]:
    base, dimension = config.base, data_dimension(config)
    if not isinstance(base, WrongMixture) or not isinstance(config.data, MixtureData):
        return
    own = mixture_dimension(base.of, base.components) or dimension
    if own != dimension:
        field = "components" if base.components is not None else "of"
        yield Finding(
            path=("base", field),
            reads=_DATA,
            rule=f"must have the dimension of the data, but got {own} for {dimension}",
        )
    if isinstance(base.mean_shift, tuple) and len(base.mean_shift) != own:
        yield Finding(
            path=("base", "mean_shift"),
            reads=(*_DATA, ("base", "of"), ("base", "components")),
            rule=f"must be a number or one number per dimension, but got "
            f"{len(base.mean_shift)} numbers for {own} dimensions",
        )


def _noise(config: StudyConfig) -> Iterator[Finding]:
    noise, diffusion = config.fit.noise, config.diffusion
    low, high = diffusion.sigma_min, diffusion.sigma_max
    for name, value in (("low", noise.low), ("high", noise.high)):
        if value is not None and not low <= value <= high:
            yield Finding(
                path=("fit", "noise", name),
                reads=(("diffusion", "sigma_min"), ("diffusion", "sigma_max")),
                rule=f"must lie within the noise levels of the diffusion, [{low:g}, {high:g}], "
                f"but got {value:g}",
            )


def _resources(config: StudyConfig) -> Iterator[Finding]:
    resources = config.resources
    fields = [("gpus_per_trial", resources.gpus_per_trial)]
    if resources.sampling_actors and not isinstance(config.data, MixtureData):
        fields.append(("gpus_per_actor", resources.gpus_per_actor))
    for name, gpus in fields:
        if resources.device == "cpu" and gpus > 0:
            end = f"be 0 with resources.device 'cpu', but got {gpus:g}; or use 'auto' or 'cuda'"
        elif resources.device == "cuda" and gpus == 0:
            end = "be > 0 with resources.device 'cuda', but got 0; or use 'auto' or 'cpu'"
        else:
            continue
        yield Finding(
            path=("resources", name), reads=(("resources", "device"),), rule=f"must {end}"
        )


def _result_cache(config: StudyConfig) -> Iterator[Finding]:
    place = config.resources.result_cache
    if place is not None and "://" in place:
        rule = f"must be a folder of the driver's machine, or a shared one, but got {place}"
        yield Finding(path=("resources", "result_cache"), reads=(), rule=rule)


def _credentials(config: StudyConfig) -> Iterator[Finding]:
    """The study is copied into the run folder, and what is there is made to be passed on."""
    for path, text in _texts(config.model_dump(mode="json"), ()):
        if has_credentials(text):
            yield Finding(
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


_RULES: tuple[Callable[[StudyConfig], Iterator[Finding]], ...] = (
    check_kinds,
    check_search,
    _generated_samples,
    _controls,
    _metrics,
    _evaluation,
    _base_dimension,
    _noise,
    _resources,
    _result_cache,
    _credentials,
)

"""What every trial shares and nobody should compute twice: bytes named by where they come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from dgray.artifact_keys import (
    base_key,
    cnn_key,
    features_key,
    generated_key,
    images_key,
    likelihood_key,
)
from dgray.build import build_data, build_problem
from dgray.build_base import build_base_fit, import_edm
from dgray.build_images import (
    BASE_SPLIT,
    SIGMA_DATA,
    build_extractor,
    build_images,
    fit_extractor,
)
from dgray.config.check_kinds import METRICS_OF_FEATURES
from dgray.config.data import MixtureData, TrainedBase, WrongMixture
from dgray.config.image_base import EdmBase
from dgray.config.study import StudyConfig
from dgray.data.images import to_uint8
from dgray.diffusion.denoiser import given
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.fit_base import run_to_end
from dgray.fit_base_data import BaseData
from dgray.image_features import reference_features
from dgray.image_store import StoredImages, pack_images, unpack_images
from dgray.plan import Trial
from dgray.problem import (
    Images,
    Problem,
    likelihood_labels,
    likelihood_points,
    likelihood_probes,
    training_split,
)

Compute = Callable[[StudyConfig, Mapping[str, bytes]], bytes]


class Store(Protocol):
    """Where artifacts are kept between runs."""

    def read_artifact(self, key: str) -> bytes | None:
        """The artifact, or None."""
        ...

    def write_artifact(self, key: str, content: bytes) -> None:
        """Keep it."""
        ...


def build_artifacts(trials: Iterable[Trial], store: Store) -> dict[str, bytes]:
    """Everything these trials need, from the store where it is there, else computed and kept.

    Computed with the trials' own thread setting, so that the bytes do not depend on who computes
    them.
    """
    made: dict[str, bytes] = {}
    for trial in trials:
        config = trial.config
        torch.set_num_threads(config.resources.cpus_per_trial)
        for key, compute in _needed(config):
            _ensure(made, store, key, compute, config)
    return made


def artifact_keys(trial: Trial) -> list[str]:
    """Names of what ``build_artifacts`` makes for a trial."""
    return [key for key, _ in _needed(trial.config)]


def _needed(config: StudyConfig) -> Iterator[tuple[str, Compute]]:
    """Keys of a trial's artifacts in the order in which they need each other."""
    is_image = not isinstance(config.data, MixtureData)
    if is_image:
        yield images_key(config), _images
    if isinstance(config.base, TrainedBase):
        yield base_key(config), _image_base if is_image else _fit_base
    elif isinstance(config.base, EdmBase):
        yield base_key(config), _edm_base
    if not isinstance(config.base, WrongMixture):
        yield generated_key(config), _generate_images if is_image else _generate
    if set(METRICS_OF_FEATURES) & set(config.evaluate.metrics):
        if config.evaluate.features == "cnn":
            yield cnn_key(config), fit_extractor
        yield features_key(config), _reference_features
    if {"kl", "nll"} & set(config.evaluate.metrics):
        yield likelihood_key(config), _base_likelihood


def _ensure(
    made: dict[str, bytes], store: Store, key: str, compute: Compute, config: StudyConfig
) -> None:
    if key in made:
        return
    content = store.read_artifact(key)
    if content is None:
        content = compute(config, made)
        store.write_artifact(key, content)
    made[key] = content


def _fit_base(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    del made
    assert isinstance(config.base, TrainedBase)
    assert isinstance(config.data, MixtureData)
    data = build_data(config.data)
    real = data.sample(config.base.num_real, named_generator(config.seed, "real", "base"))
    scale = config.diffusion.sigma_data or data.std
    return run_to_end(
        build_base_fit(config.base, BaseData(real), sigma_data=scale, seed=config.seed)
    )


def _generate(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    problem = build_problem(config, made, torch.device("cpu"))
    assert isinstance(config.base, TrainedBase)
    diffusion = config.diffusion
    sigmas = karras_sigmas(
        config.base.generation_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
    )
    counts = _generated_counts(config)
    return safetensors.torch.save(
        {split: _samples(problem, count, sigmas, split) for split, count in counts.items()}
    )


@torch.no_grad()
def _samples(
    problem: Problem, count: int, sigmas: Tensor, split: str, labels: Tensor | None = None
) -> Tensor:
    """Heun samples of the base, shape (count, d)."""
    generator = named_generator(problem.config.seed, "generated", split)
    shape = (count, problem.dimension)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return heun(given(problem.base, labels), problem.prior_std * noise, sigmas)


def _images(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    del made
    return pack_images(build_images(config))


def _image_base(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    assert isinstance(config.base, TrainedBase)
    stored = unpack_images(made[images_key(config)])
    rows = stored.images.rows[BASE_SPLIT]
    pixels = stored.images.pixels[rows].unflatten(1, stored.shape)
    labels = None
    if config.base.conditional and stored.images.classes is not None:
        labels = stored.images.classes[rows]
    fit = build_base_fit(
        config.base,
        BaseData(pixels, labels),
        sigma_data=config.diffusion.sigma_data or SIGMA_DATA,
        seed=config.seed,
        num_classes=stored.num_classes,
    )
    return run_to_end(fit)


def _edm_base(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    del made
    assert isinstance(config.base, EdmBase)
    return import_edm(config.base, tell=lambda text: print(text, file=sys.stderr))


def _reference_features(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    extractor = build_extractor(config, made, torch.device("cpu"))
    return reference_features(config, unpack_images(made[images_key(config)]), extractor)


def _generate_images(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    """Samples of the base as saved images are, in bytes: real ones are too."""
    problem = build_problem(config, made, torch.device("cpu"))
    base, diffusion = config.base, config.diffusion
    assert not isinstance(base, WrongMixture)
    assert problem.shape is not None
    sigmas = karras_sigmas(
        base.generation_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
    )
    pixels, labels, rows, start = [], list[Tensor | None](), {}, 0
    for split, count in _generated_counts(config).items():
        labels.append(_drawn_labels(problem, count, split))
        pixels.append(to_uint8(_samples(problem, count, sigmas, split, labels[-1])))
        rows[split] = torch.arange(start, start + count)
        start += count
    source = {"name": "generated by the base", "sha256": ""}
    known = [each for each in labels if each is not None]
    images = Images(torch.cat(pixels), rows, torch.cat(known) if known else None)
    return pack_images(StoredImages(images, problem.shape, problem.num_classes, source))


def _drawn_labels(problem: Problem, count: int, split: str) -> Tensor | None:
    """Classes, all as likely, for which the base draws samples."""
    if not problem.num_classes:
        return None
    generator = named_generator(problem.config.seed, "labels", split)
    return torch.randint(problem.num_classes, (count,), generator=generator)


def _generated_counts(config: StudyConfig) -> dict[str, int]:
    """Samples of the base in each split."""
    counts = {"validation": config.data.num_validation, "held_out": config.data.num_held_out}
    for replicate in range(config.replicates):
        counts[training_split(replicate)] = config.base.num_generated
    return counts


def _base_likelihood(config: StudyConfig, made: Mapping[str, bytes]) -> bytes:
    problem = build_problem(config, made, torch.device("cpu"))
    labels, probes = likelihood_labels(problem), likelihood_probes(problem)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        base = given(problem.base, None if labels is None else labels[index])
        return base.with_divergence(x, sigma, None if probes is None else probes[:, index])

    flow = ode_log_likelihood(
        field,
        likelihood_points(problem),
        problem.span,
        prior_std=problem.prior_std,
        tolerance=config.evaluate.tolerance,
        max_steps=config.evaluate.max_steps,
    )
    return safetensors.torch.save({"log_prob": flow.log_prob, "converged": flow.converged})

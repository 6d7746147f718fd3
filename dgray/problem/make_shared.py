"""How each thing that trials share is computed: generators that do not know where they run.

Each yields how far it is, with a state to go on from where there is one, and at last its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from dgray.base.fit import BaseFit
from dgray.base.fit_data import BaseData
from dgray.config.base import EdmBase, NetworkBase, TrainedBase
from dgray.config.data import MixtureData
from dgray.config.study import StudyConfig
from dgray.data.images import to_uint8
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.noise import named_generator, philox_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.plan.shared_keys import images_key
from dgray.problem.base_model import build_base_fit, import_edm
from dgray.problem.build import build_data, build_device, build_problem
from dgray.problem.image_store import StoredImages, pack_images, unpack_images
from dgray.problem.images import (
    BASE_SPLIT,
    SIGMA_DATA,
    build_extractor,
    build_images,
    fit_extractor,
    import_inception,
)
from dgray.problem.problem import (
    Images,
    Problem,
    likelihood_labels,
    likelihood_points,
    likelihood_probes,
    training_split,
)
from dgray.problem.reference import import_statistics, reference_features

SHARDS_PER_PART = 4  # what one worker draws of generated images before it hands them over


@dataclass(frozen=True)
class Part:
    """Some of an artifact's samples: those of seeds ``start`` to ``stop - 1`` of a split."""

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class Step:
    """How far a computation is: ``done`` of ``total``, and what it would be resumed from."""

    done: int
    total: int
    words: str = ""
    state: bytes | None = None


Making = Iterator[Step | bytes]


class Compute(Protocol):
    """A computation; ``made``: the artifacts it needs; ``resume``: a ``Step.state`` of it."""

    def __call__(
        self,
        config: StudyConfig,
        made: Mapping[str, bytes],
        part: Part | None,
        resume: bytes | None,
    ) -> Making:
        """Steps, then the bytes."""
        ...


@dataclass(frozen=True)
class Job:
    """One computation, ready to be sent to whoever makes it.

    Attributes:
        key: of what it makes.
        compute: how.
        config: of a trial that needs it.
        part: which part of an artifact that is made in parts.
        is_here: it needs files of the driver's machine.
    """

    key: str
    compute: Compute
    config: StudyConfig
    part: Part | None = None
    is_here: bool = False

    @property
    def role(self) -> str:
        """What it makes, in a word."""
        return self.key.partition("-")[0]

    def run(self, made: Mapping[str, bytes], resume: bytes | None) -> Making:
        """Make it with the trials' own thread setting, so that it matters not who does."""
        torch.set_num_threads(self.config.resources.cpus_per_trial)
        yield from self.compute(self.config, made, self.part, resume)


def make_images(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """The images with their splits."""
    yield pack_images(build_images(config))


def make_base_of_points(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """A trained base, fitted to its own draw of the data."""
    assert isinstance(config.base, TrainedBase)
    assert isinstance(config.data, MixtureData)
    data = build_data(config.data)
    real = data.sample(config.base.num_real, named_generator(config.seed, "real", "base"))
    fit = build_base_fit(
        config.base,
        BaseData(real),
        sigma_data=config.diffusion.sigma_data or data.std,
        seed=config.seed,
        device=build_device(config),
        resume=resume,
    )
    yield from _training(fit, config.base.steps)


def make_base_of_images(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """A trained base, fitted to its own split of the images."""
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
        device=build_device(config),
        resume=resume,
    )
    yield from _training(fit, config.base.steps)


def _training(fit: BaseFit, total: int) -> Making:
    while True:
        try:
            at = next(fit)
        except StopIteration as end:
            yield end.value
            return
        yield Step(at.step, total, f"steps, loss {at.loss:.3g}", at.state)


def make_edm_base(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """A stored network, fetched if need be."""
    assert isinstance(config.base, EdmBase)
    yield import_edm(config.base, tell=lambda text: print(text, file=sys.stderr))


def make_extractor(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """The classifier of ``evaluate.features: cnn``."""
    yield fit_extractor(config, made)


def make_inception(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """Inception's weights: the driver finds them; workers need neither file nor variable."""
    yield import_inception(config)


def make_statistics(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """The mean and covariance that ``evaluate.reference`` names, likewise."""
    yield import_statistics(config, made)


def make_features(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """Features of the real images."""
    extractor = build_extractor(config, made, build_device(config))
    yield reference_features(config, unpack_images(made[images_key(config)]), extractor)


def make_generated_points(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """Samples of a trained base."""
    problem = build_problem(config, made, build_device(config))
    drawn = {}
    for split, count in generated_counts(config).items():
        generator = named_generator(config.seed, "generated", split)
        noise = torch.randn((count, problem.dimension), generator=generator, dtype=torch.float64)
        drawn[split] = _drawn(problem, noise, None).cpu()
    yield safetensors.torch.save(drawn)


def make_generated_images(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """A part of the base's samples, in bytes as saved images are; each of its own seed alone."""
    assert part is not None
    problem = build_problem(config, made, build_device(config))
    count = generated_counts(config)[part.split]
    labels = _drawn_labels(problem, count, part.split)
    pixels = []
    for start in range(part.start, part.stop, config.evaluate.shard_size):
        seeds = range(start, min(start + config.evaluate.shard_size, part.stop))
        shape, purpose = (problem.dimension,), f"generated {part.split}"
        noise = philox_noise(config.seed, seeds, shape, purpose)
        asked = None if labels is None else labels[seeds.start : seeds.stop]
        pixels.append(to_uint8(_drawn(problem, noise, asked)).cpu())
        yield Step(seeds.stop - part.start, part.stop - part.start, "images")
    tensors = {"pixels": torch.cat(pixels)}
    if labels is not None:
        tensors["labels"] = labels[part.start : part.stop]
    yield safetensors.torch.save(tensors)


def generated_parts(config: StudyConfig) -> list[Part]:
    """The parts of the base's images."""
    size = SHARDS_PER_PART * config.evaluate.shard_size
    return [
        Part(split, start, min(start + size, count))
        for split, count in generated_counts(config).items()
        for start in range(0, count, size)
    ]


def join_generated(
    config: StudyConfig, made: Mapping[str, bytes], parts: Mapping[Part, bytes]
) -> bytes:
    """All images that the base drew, from their parts.

    Raises:
        RuntimeError: a part has fewer or more images than it was asked for.
    """
    stored = unpack_images(made[images_key(config)])
    rows: dict[str, list[int]] = {split: [] for split in generated_counts(config)}
    pixels, labels, start = [], list[Tensor](), 0
    for part, content in parts.items():
        tensors = safetensors.torch.load(content)
        count = part.stop - part.start
        if len(tensors["pixels"]) != count:
            raise RuntimeError(
                f"{part} must have {count} images, but {len(tensors['pixels'])} were drawn"
            )
        pixels.append(tensors["pixels"])
        labels += [tensors["labels"]] if "labels" in tensors else []
        rows[part.split].extend(range(start, start + count))
        start += count
    of_split = {split: torch.tensor(where, dtype=torch.int64) for split, where in rows.items()}
    images = Images(torch.cat(pixels), of_split, torch.cat(labels) if labels else None)
    source = {"name": "generated by the base", "sha256": ""}
    return pack_images(StoredImages(images, stored.shape, stored.num_classes, source))


def generated_counts(config: StudyConfig) -> dict[str, int]:
    """Samples of the base in each split."""
    counts = {"validation": config.data.num_validation, "held_out": config.data.num_held_out}
    for replicate in range(config.replicates):
        counts[training_split(replicate)] = config.base.num_generated
    return counts


@torch.no_grad()
def _drawn(problem: Problem, noise: Tensor, labels: Tensor | None) -> Tensor:
    """Heun samples of the base from standard normal noise, shape (n, d)."""
    base, diffusion = problem.config.base, problem.config.diffusion
    assert isinstance(base, NetworkBase)
    sigmas = karras_sigmas(
        base.generation_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
    )
    asked = None if labels is None else labels.to(problem.device)
    start = problem.prior_std * noise.to(problem.device)
    return heun(with_labels(problem.base, asked), start, sigmas)


def _drawn_labels(problem: Problem, count: int, split: str) -> Tensor | None:
    """Classes, all as likely, for which the base draws samples."""
    if not problem.num_classes:
        return None
    generator = named_generator(problem.config.seed, "labels", split)
    return torch.randint(problem.num_classes, (count,), generator=generator)


def make_base_likelihood(
    config: StudyConfig, made: Mapping[str, bytes], part: Part | None, resume: bytes | None
) -> Making:
    """Log-likelihoods of the unguided base at held-out points, or at those of the part's split."""
    problem = build_problem(config, made, build_device(config))
    split = "held_out" if part is None else part.split
    labels, probes = likelihood_labels(problem, split), likelihood_probes(problem, split)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        base = with_labels(problem.base, None if labels is None else labels[index])
        return base.with_divergence(x, sigma, None if probes is None else probes[:, index])

    flow = ode_log_likelihood(
        field,
        likelihood_points(problem, split),
        problem.span,
        prior_std=problem.prior_std,
        tolerance=config.evaluate.tolerance,
        max_steps=config.evaluate.max_steps,
    )
    found = {"log_prob": flow.log_prob.cpu(), "converged": flow.converged.cpu()}
    yield safetensors.torch.save(found)

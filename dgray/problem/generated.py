"""Samples of the base, generated part by part as a shared artifact."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from dgray.config.bases import NetworkBase
from dgray.config.study import StudyConfig
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun, sampler_sigmas
from dgray.problem.artifact_table import ArtifactStream, SampleRange, Step
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_device, build_problem, builders_of
from dgray.problem.problem import Labelled, Problem, training_split

_SAMPLES = "pixels"  # tensor of generated samples in a part


def generated_counts(config: StudyConfig) -> dict[str, int]:
    """Return the number of samples of the base in each split."""
    counts = {"validation": config.data.num_validation, "held_out": config.data.num_held_out}
    for replicate in range(config.replicates):
        counts[training_split(replicate)] = config.base.num_generated
    return counts


def generated_parts(config: StudyConfig) -> list[SampleRange]:
    """Return the parts of the base's samples; a split without samples is one part."""
    parts, most = [], builders_of(config).part_size(config)
    for split, count in generated_counts(config).items():
        size = most or max(count, 1)
        parts += [
            SampleRange(split, s, min(s + size, count)) for s in range(0, max(count, 1), size)
        ]
    return parts


def make_generated(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Generate a part of the base's samples; an image depends on its own seed alone."""
    assert part is not None
    problem = build_problem(config, shared, build_device(config))
    labels = _generated_labels(problem, generated_counts(config)[part.split], part.split)
    samples = [problem.to_stored(torch.zeros(0, problem.dimension, dtype=torch.float64))]
    for seeds in problem.generation_batches(part.start, part.stop):
        noise = problem.generation_noise(part.split, seeds)
        classes = None if labels is None else labels[seeds.start : seeds.stop]
        drawn = _unguided_samples(config, problem, noise, classes)
        samples.append(problem.to_stored(drawn).cpu())
        yield Step(seeds.stop - part.start, part.stop - part.start, "samples")
    tensors = {_SAMPLES: torch.cat(samples)}
    if labels is not None:
        tensors["labels"] = labels[part.start : part.stop]
    yield safetensors.torch.save(tensors)


@torch.no_grad()
def _unguided_samples(
    config: StudyConfig, problem: Problem, noise: Tensor, labels: Tensor | None
) -> Tensor:
    """Return Heun samples of the base from standard normal noise, shape (n, d)."""
    assert isinstance(config.base, NetworkBase)
    steps, rho = config.base.generation_steps, config.diffusion.rho
    sigmas = sampler_sigmas(problem.base, steps, problem.span, rho)
    classes = None if labels is None else labels.to(problem.device)
    start = problem.prior_std_at(float(sigmas[0])) * noise.to(problem.device)
    return heun(with_labels(problem.base, classes), start, sigmas)


def _generated_labels(problem: Problem, count: int, split: str) -> Tensor | None:
    """Return classes for which the base generates samples.

    They are as frequent as in an exact distribution of the data, otherwise equally frequent.
    """
    if not problem.num_classes:
        return None
    generator = named_generator(problem.seed, "labels", split)
    if problem.class_weights is not None:
        return problem.classes(torch.rand(count, generator=generator, dtype=torch.float64)).cpu()
    return torch.randint(problem.num_classes, (count,), generator=generator)


def join_generated(
    config: StudyConfig, shared: Shared, parts: Mapping[SampleRange, bytes]
) -> bytes:
    """Join all samples that the base generated from their parts.

    Raises:
        RuntimeError: if a part does not have the expected number of samples.
    """
    by_split: dict[str, list[dict[str, Tensor]]] = {s: [] for s in generated_counts(config)}
    for part, content in parts.items():
        tensors = safetensors.torch.load(content)
        count = part.stop - part.start
        if len(tensors[_SAMPLES]) != count:
            raise RuntimeError(
                f"{part} must have {count} samples, but {len(tensors[_SAMPLES])} were drawn"
            )
        by_split[part.split].append(tensors)
    joined = {split: _joined(of_split) for split, of_split in by_split.items()}
    return builders_of(config).pack_generated(shared, joined)


def _joined(parts: list[dict[str, Tensor]]) -> Labelled:
    samples = torch.cat([part[_SAMPLES] for part in parts])
    labels = [part["labels"] for part in parts if "labels" in part]
    return samples, torch.cat(labels) if labels else None

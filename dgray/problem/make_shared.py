"""Computations of the shared artifacts of ``artifact_table``.

A computation yields its progress, with a state to resume from where there is one, and then its
bytes. It does not depend on the process that runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from dgray.catalogue import load_object
from dgray.config.bases import EdmBase, TrainedBase
from dgray.config.study import StudyConfig
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.errors import ArtifactError
from dgray.problem.artifact_table import ArtifactStream, Job, SampleRange, Step, needed_artifacts
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import build_base, build_base_fit, import_edm
from dgray.problem.build import build_device, build_problem, builders_of
from dgray.problem.compute_process import prepare_process
from dgray.problem.failure import Made, describe

_RUN = "dgray.problem.make_shared:run_job"


def run_job(job: Job, shared: Shared, resume: bytes | None) -> ArtifactStream:
    """Compute with the trials' own number of threads, so the bits depend on no worker."""
    prepare_process(job.config.resources.cpus_per_trial)
    try:
        yield from job.compute(job.config, shared, job.part, resume)
    except SystemExit as error:  # of user-defined code; a worker would end
        raise ArtifactError(describe(error)) from error


def shared_of(config: StudyConfig, made: Mapping[str, Made]) -> Shared:
    """Return the artifacts of a study by role; those not yet made are left out.

    Raises:
        ArtifactError: if one of them could not be made.
    """
    keys = {artifact.role: artifact.key(config) for artifact in needed_artifacts(config)}
    contents = {}
    for role, key in keys.items():
        if isinstance(content := made.get(key), str):
            raise ArtifactError(content)
        if content is not None:
            contents[role] = content
    return Shared(contents)


def make_base(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Make the weights of the base by the computation that its specification names."""
    assert config.base.spec.weights is not None  # a condition of the artifact
    yield from load_object(config.base.spec.weights)(config, shared, part, resume)


def make_trained_base(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Train a base on a draw, or a split, of its own."""
    assert isinstance(config.base, TrainedBase)
    fit = build_base_fit(
        config.base,
        builders_of(config).training_data(config, shared),
        seed=config.seed,
        device=build_device(config),
        resume=resume,
    )
    while True:
        try:
            step = next(fit)
        except StopIteration as end:
            yield end.value
            return
        yield Step(step.step, config.base.steps, f"steps, loss {step.loss:.3g}", step.state)


def make_edm_base(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Import a stored network, downloaded if necessary."""
    assert isinstance(config.base, EdmBase)
    content = import_edm(config.base, log=lambda text: print(text, file=sys.stderr))
    made, data = Shared({**shared.contents, "base": content}), shared.images
    device = torch.device("cpu")
    build_base(config, made, data.shape, device, num_classes=data.num_classes)  # checks it
    yield content


def base_likelihood(config: StudyConfig, shared: Shared, *, split: str) -> bytes:
    """Return log-likelihoods of the unguided base at points of a split."""
    problem = build_problem(config, shared, build_device(config))
    labels, probes = problem.likelihood_labels(split), problem.likelihood_probes(split)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        base = with_labels(problem.base, None if labels is None else labels[index])
        return base.with_divergence(x, sigma, None if probes is None else probes[:, index])

    flow = ode_log_likelihood(
        field,
        problem.likelihood_points(split),
        problem.span,
        prior_std=problem.prior_std,
        tolerance=config.evaluate.tolerance,
        max_steps=config.evaluate.max_steps,
    )
    tensors = {"log_prob": flow.log_prob.cpu(), "converged": flow.converged.cpu()}
    return safetensors.torch.save(tensors)

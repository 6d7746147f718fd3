"""Computation of the shared artifacts: one table, and a generator for each of its entries.

A computation yields its progress, with a state to resume from where there is one, and then its
bytes. It does not depend on the process that runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import safetensors.torch
import torch
from torch import Tensor

from dgray.catalogue import load_object
from dgray.config.bases import EdmBase, TrainedBase
from dgray.config.study import StudyConfig
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.errors import ArtifactError
from dgray.plan.shared_keys import (
    base_key,
    cnn_key,
    features_key,
    generated_key,
    images_key,
    inception_key,
    likelihood_key,
    statistics_key,
)
from dgray.problem.artifacts import ArtifactStream, SampleRange, Shared, Step
from dgray.problem.base_model import build_base, build_base_fit, import_edm
from dgray.problem.build import build_device, build_problem, builders_of
from dgray.problem.failure import Made, describe
from dgray.problem.generated import generated_parts, join_generated, make_generated
from dgray.problem.images import image_artifact
from dgray.problem.part_process import outside_modules, run_apart
from dgray.problem.reference import (
    SPLITS,
    fit_extractor,
    import_inception,
    import_statistics,
    reference_features,
)

_RUN = "dgray.problem.make_shared:run_job"

Compute = Callable[[StudyConfig, Shared, SampleRange | None, bytes | None], ArtifactStream]
"""Computation of an artifact or of a part of one; the bytes are a ``Step.state`` to resume it."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Entry of the table of shared artifacts.

    Attributes:
        role: name in ``Shared``.
        key: name of the artifact of a study, a hash of its inputs.
        is_needed: whether the trials of a study need it.
        compute: computation of the artifact, or of one of its parts.
        needs_driver_files: whether it reads files that only the driver's machine has.
        parts: parts that are computed independently of each other; None: it has no parts.
        join: the artifact from its parts.
    """

    role: str
    key: Callable[[StudyConfig], str]
    is_needed: Callable[[StudyConfig], bool]
    compute: Compute
    needs_driver_files: Callable[[StudyConfig], bool] = lambda config: False
    parts: Callable[[StudyConfig], list[SampleRange]] | None = None
    join: Callable[[StudyConfig, Shared, Mapping[SampleRange, bytes]], bytes] | None = None


@dataclass(frozen=True)
class Job:
    """One computation, ready to be sent to a worker.

    Attributes:
        key: name of its result.
        compute: the computation.
        config: configuration of a trial that needs it.
        part: part of an artifact that has parts.
        needs_driver_files: whether it reads files that only the driver's machine has.
    """

    key: str
    compute: Compute
    config: StudyConfig
    part: SampleRange | None = None
    needs_driver_files: bool = False

    @property
    def role(self) -> str:
        """Role of its result, for messages."""
        return self.key.partition("-")[0]

    def run(self, made: Mapping[str, Made], resume: bytes | None) -> ArtifactStream:
        """Compute here, or in a child process if code of other packages takes part."""
        shared = shared_of(self.config, made)
        if outside_modules(self.config):
            yield from run_apart(
                self.config, _RUN, {"job": self, "shared": shared, "resume": resume}
            )
        else:
            yield from run_job(self, shared, resume)


def run_job(job: Job, shared: Shared, resume: bytes | None) -> ArtifactStream:
    """Compute with the trials' own number of threads, so the bits depend on no worker."""
    torch.set_num_threads(job.config.resources.cpus_per_trial)
    try:
        yield from job.compute(job.config, shared, job.part, resume)
    except SystemExit as error:  # of user-defined code; a worker would end
        raise ArtifactError(describe(error)) from error


def needed_artifacts(config: StudyConfig) -> Iterator[Artifact]:
    """Yield the artifacts of a study, each after those that it depends on."""
    return (artifact for artifact in ARTIFACTS if artifact.is_needed(config))


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


def _in_one_step(
    function: Callable[[StudyConfig, Shared], bytes],
    config: StudyConfig,
    shared: Shared,
    part: SampleRange | None,
    resume: bytes | None,
) -> ArtifactStream:
    """Compute an artifact without reporting progress."""
    yield function(config, shared)


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


def _needs_features(config: StudyConfig) -> bool:
    return config.evaluate.has_metric(source="features")


ARTIFACTS: tuple[Artifact, ...] = (
    Artifact(
        role="images",
        key=images_key,
        is_needed=lambda config: config.data.sample_kind == "images",
        compute=partial(_in_one_step, image_artifact),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="base",
        key=base_key,
        is_needed=lambda config: config.base.spec.weights is not None,
        compute=make_base,
        needs_driver_files=lambda config: config.base.spec.needs_driver_files,
    ),
    Artifact(
        role="generated",
        key=generated_key,
        is_needed=lambda config: not config.base.spec.has_density,
        compute=make_generated,
        parts=generated_parts,
        join=join_generated,
    ),
    Artifact(
        role="cnn",
        key=cnn_key,
        is_needed=lambda config: _needs_features(config) and config.evaluate.features == "cnn",
        compute=partial(_in_one_step, fit_extractor),
    ),
    Artifact(
        role="inception",
        key=inception_key,
        is_needed=lambda config: (
            _needs_features(config) and config.evaluate.features.startswith("inception")
        ),
        compute=partial(_in_one_step, import_inception),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="features",
        key=features_key,
        is_needed=_needs_features,
        compute=partial(_in_one_step, reference_features),
    ),
    Artifact(
        role="statistics",
        key=statistics_key,
        is_needed=lambda config: (
            _needs_features(config) and config.evaluate.reference not in SPLITS
        ),
        compute=partial(_in_one_step, import_statistics),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="likelihood",
        key=likelihood_key,
        is_needed=lambda config: config.evaluate.has_metric(source="flow"),
        compute=partial(_in_one_step, partial(base_likelihood, split="held_out")),
    ),
    Artifact(
        role="likelihood-validation",
        key=partial(likelihood_key, split="validation"),
        is_needed=lambda config: config.search.needs_flow,
        compute=partial(_in_one_step, partial(base_likelihood, split="validation")),
    ),
)

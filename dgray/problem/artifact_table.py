"""Table of the shared artifacts: which a study needs, and the functions that compute them.

The functions are imported when they are called, so that a driver whose workers compute them needs
no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dgray.catalogue import load_object
from dgray.config.study import StudyConfig
from dgray.data.summary import DataSummary
from dgray.files import safetensors_metadata
from dgray.plan.shared_keys import (
    base_key,
    cnn_key,
    features_key,
    generated_key,
    images_key,
    inception_key,
    likelihood_key,
    points_key,
    statistics_key,
)
from dgray.problem.failure import Made
from dgray.problem.part_process import outside_modules, run_apart

if TYPE_CHECKING:
    from dgray.problem.artifacts import Shared

DATA_PREFIXES = ("images-", "points-")  # of the keys of artifacts with data
SPLITS = ("held_out", "training")  # values of evaluate.reference that are splits of the data
_RUN = "dgray.problem.make_shared:run_job"


@dataclass(frozen=True)
class SampleRange:
    """Samples ``start`` to ``stop - 1`` of a split, computed as one part of an artifact."""

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class Step:
    """Progress of a computation: ``done`` of ``total``, and a state to resume it from."""

    done: int
    total: int
    text: str = ""
    state: bytes | None = None


ArtifactStream = Iterator[Step | bytes]


Compute = Callable[[StudyConfig, "Shared", SampleRange | None, bytes | None], ArtifactStream]
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
        from dgray.problem.make_shared import run_job, shared_of  # torch

        shared = shared_of(self.config, made)
        if outside_modules(self.config):
            yield from run_apart(
                self.config, _RUN, {"job": self, "shared": shared, "resume": resume}
            )
        else:
            yield from run_job(self, shared, resume)


@dataclass(frozen=True)
class _Imported:
    """Function that is imported when it is called.

    Attributes:
        path: import path ``"module:function"``.
    """

    path: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return load_object(self.path)(*arguments, **named)


def _in_one_step(path: str, **options: Any) -> Compute:
    """Return the computation by a function that reports no progress."""
    return partial(_run_in_one_step, _Imported(path), options)


def _run_in_one_step(
    function: Callable[..., bytes],
    options: Mapping[str, Any],
    config: StudyConfig,
    shared: Shared,
    part: SampleRange | None,
    resume: bytes | None,
) -> ArtifactStream:
    yield function(config, shared, **options)


def data_summaries(made: Mapping[str, Made]) -> list[DataSummary]:
    """Return the different summaries of images and points among artifacts by key."""
    records = [
        json.loads(safetensors_metadata(content)["about"])["source"]
        for key, content in made.items()
        if key.startswith(DATA_PREFIXES) and isinstance(content, bytes)
    ]
    by_sha256 = {record["sha256"]: record for record in records if "num_images" in record}
    return [DataSummary.from_json(record) for record in by_sha256.values()]


def needed_artifacts(config: StudyConfig) -> Iterator[Artifact]:
    """Yield the artifacts of a study, each after those that it depends on."""
    return (artifact for artifact in ARTIFACTS if artifact.is_needed(config))


def _needs_features(config: StudyConfig) -> bool:
    is_image = config.data.sample_kind == "images"
    return is_image and config.evaluate.has_metric(source="features")


def _needs_weights(config: StudyConfig, role: str) -> bool:
    """Return True if the weights of the features are the artifact of this role."""
    return _needs_features(config) and config.evaluate.features_spec.artifact == role


ARTIFACTS: tuple[Artifact, ...] = (
    Artifact(
        role="images",
        key=images_key,
        is_needed=lambda config: config.data.sample_kind == "images",
        compute=_in_one_step("dgray.problem.images:image_artifact"),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="points",
        key=points_key,
        is_needed=lambda config: config.data.is_stored and config.data.sample_kind == "points",
        compute=_in_one_step("dgray.problem.stored_points:point_artifact"),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="base",
        key=base_key,
        is_needed=lambda config: config.base.spec.weights is not None,
        compute=_Imported("dgray.problem.make_shared:make_base"),
        needs_driver_files=lambda config: config.base.spec.needs_driver_files,
    ),
    Artifact(
        role="generated",
        key=generated_key,
        is_needed=lambda config: not config.base.spec.has_density,
        compute=_Imported("dgray.problem.generated:make_generated"),
        parts=_Imported("dgray.problem.generated:generated_parts"),
        join=_Imported("dgray.problem.generated:join_generated"),
    ),
    Artifact(
        role="cnn",
        key=cnn_key,
        is_needed=lambda config: _needs_weights(config, "cnn"),
        compute=_in_one_step("dgray.problem.reference:fit_extractor"),
    ),
    Artifact(
        role="inception",
        key=inception_key,
        is_needed=lambda config: _needs_weights(config, "inception"),
        compute=_in_one_step("dgray.problem.reference:import_inception"),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="features",
        key=features_key,
        is_needed=_needs_features,
        compute=_in_one_step("dgray.problem.reference:reference_features"),
    ),
    Artifact(
        role="statistics",
        key=statistics_key,
        is_needed=lambda config: (
            _needs_features(config) and config.evaluate.reference not in SPLITS
        ),
        compute=_in_one_step("dgray.problem.reference:import_statistics"),
        needs_driver_files=lambda config: True,
    ),
    Artifact(
        role="likelihood",
        key=likelihood_key,
        is_needed=lambda config: config.evaluate.has_metric(source="flow"),
        compute=_in_one_step("dgray.problem.make_shared:base_likelihood", split="held_out"),
    ),
    Artifact(
        role="likelihood-validation",
        key=partial(likelihood_key, split="validation"),
        is_needed=lambda config: config.search.needs_flow,
        compute=_in_one_step("dgray.problem.make_shared:base_likelihood", split="validation"),
    ),
)

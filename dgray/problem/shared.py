"""What every trial shares and nobody should compute twice: bytes named by where they come from.

Says which there are and in which order; ``make_shared.py`` says how each is computed,
and ``Workers`` where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from dgray.config.base import EdmBase, TrainedBase, WrongMixture
from dgray.config.data import MixtureData
from dgray.config.study import StudyConfig
from dgray.errors import ArtifactError
from dgray.plan.plan import Trial
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
from dgray.problem.make_shared import (
    Job,
    Part,
    Step,
    generated_parts,
    join_generated,
    make_base_likelihood,
    make_base_of_images,
    make_base_of_points,
    make_edm_base,
    make_extractor,
    make_features,
    make_generated_images,
    make_generated_points,
    make_images,
    make_inception,
    make_statistics,
)
from dgray.problem.reference import SPLITS

Tell = Callable[[str, Step], None]  # role of an artifact, and how far it is
_STATE = ".state"  # of what is not finished


class Store(Protocol):
    """Where artifacts are kept between runs."""

    def read_artifact(self, key: str) -> bytes | None:
        """The artifact, or None."""
        ...

    def write_artifact(self, key: str, content: bytes) -> None:
        """Keep it."""
        ...

    def delete_artifact(self, key: str) -> None:
        """Forget it, if it is there."""
        ...


class Workers(Protocol):
    """Who makes artifacts: this process, or Ray (``dgray.engine.artifact_workers``)."""

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, bytes],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        """Steps and results of jobs that need nothing of each other, as they come.

        ``state``: what a job of this key is resumed from, asked when it starts.
        """
        ...


class InThisProcess:
    """Makes one after the other."""

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, bytes],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        """See ``Workers``."""
        for job in jobs:
            for step in job.run(made, state(job.key)):
                yield job, step


def build_artifacts(
    trials: Iterable[Trial],
    store: Store,
    workers: Workers | None = None,
    tell: Tell = lambda role, step: None,
) -> dict[str, bytes]:
    """Everything these trials need, from the store where it is there, else made and kept.

    A training that was cut off goes on from its last state; of what is made in parts, parts that
    are there are not made again.

    Raises:
        ArtifactError: one cannot be made.
    """
    made: dict[str, bytes] = {}
    for trial in trials:
        for job in _needed(trial.config):
            if job.key not in made:
                made[job.key] = _ensured(job, made, store, workers or InThisProcess(), tell)
    return made


def artifact_keys(trial: Trial) -> list[str]:
    """Names of what ``build_artifacts`` makes for a trial."""
    return [job.key for job in _needed(trial.config)]


def _needed(config: StudyConfig) -> Iterator[Job]:
    """A trial's artifacts in the order in which they need each other."""
    is_image = not isinstance(config.data, MixtureData)
    if is_image:
        yield Job(images_key(config), make_images, config, is_here=True)
    if isinstance(config.base, TrainedBase):
        yield Job(
            base_key(config), make_base_of_images if is_image else make_base_of_points, config
        )
    elif isinstance(config.base, EdmBase):
        yield Job(base_key(config), make_edm_base, config, is_here=True)
    if not isinstance(config.base, WrongMixture):
        how = make_generated_images if is_image else make_generated_points
        yield Job(generated_key(config), how, config)
    if config.evaluate.has_metric(source="features"):
        if config.evaluate.features == "cnn":
            yield Job(cnn_key(config), make_extractor, config)
        elif config.evaluate.features.startswith("inception"):
            yield Job(inception_key(config), make_inception, config, is_here=True)
        yield Job(features_key(config), make_features, config)
        if config.evaluate.reference not in SPLITS:
            yield Job(statistics_key(config), make_statistics, config, is_here=True)
    if config.evaluate.has_metric(source="flow"):
        yield Job(likelihood_key(config), make_base_likelihood, config)
    if config.search.needs_flow:
        points = Part("validation", 0, config.evaluate.num_points)
        key = likelihood_key(config, points.split)
        yield Job(key, make_base_likelihood, config, points)


def _ensured(
    job: Job, made: Mapping[str, bytes], store: Store, workers: Workers, tell: Tell
) -> bytes:
    content = store.read_artifact(job.key)
    if content is not None:
        return content
    try:
        if job.compute is not make_generated_images:
            return _run([job], made, store, workers, tell)[job.key]
        parts = {_part_key(job.key, part): part for part in generated_parts(job.config)}
        jobs = [Job(key, job.compute, job.config, part) for key, part in parts.items()]
        found = _run(jobs, made, store, workers, tell)
        content = join_generated(
            job.config, made, {part: found[key] for key, part in parts.items()}
        )
    except Exception as error:  # whatever it is, no trial can run without
        raise ArtifactError(f"{job.role} cannot be made: {error}") from error
    store.write_artifact(job.key, content)
    for key in parts:
        store.delete_artifact(key)
    return content


def _part_key(key: str, part: Part) -> str:
    return f"{key}.{part.split}-{part.start:07d}"


def _run(
    jobs: Sequence[Job], made: Mapping[str, bytes], store: Store, workers: Workers, tell: Tell
) -> dict[str, bytes]:
    """Results by key, each kept as it comes; those that are there are not made again."""
    kept = {job.key: store.read_artifact(job.key) for job in jobs}
    found = {key: content for key, content in kept.items() if content is not None}
    owed = [job for job in jobs if job.key not in found]
    steps = {job.key: Step(1, 1) if job.key in found else Step(0, 1) for job in jobs}
    for job, step in workers.make(owed, made, lambda key: store.read_artifact(key + _STATE)):
        if isinstance(step, bytes):
            store.write_artifact(job.key, step)
            store.delete_artifact(job.key + _STATE)
            found[job.key] = step
            step = Step(1, 1)
        elif step.state is not None:
            store.write_artifact(job.key + _STATE, step.state)
        steps[job.key] = step
        tell(job.role, _together(list(steps.values()), step))
    return found


def _together(steps: Sequence[Step], latest: Step) -> Step:
    """How far all jobs of one artifact are: of one job its own step, of parts how many."""
    if len(steps) == 1:
        return Step(latest.done, latest.total, latest.words)
    return Step(sum(step.done == step.total for step in steps), len(steps), "parts")

"""Shared artifacts of a study: computed once, named by a hash of their inputs.

``artifact_table.py`` lists the artifacts, ``make_shared.py`` computes them; ``Workers`` run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from typing_extensions import override

from dgray.catalogue import BASES, DATA
from dgray.config.study import StudyConfig
from dgray.errors import ArtifactError, StoreError
from dgray.plan.plan import Trial
from dgray.problem.artifact_table import Artifact, Job, SampleRange, Step, needed_artifacts
from dgray.problem.failure import Made, describe

ReportStep = Callable[[str, Step], None]  # role of an artifact and its progress
_STATE = ".state"  # suffix of the key of an unfinished computation


class ArtifactStore(Protocol):
    """Storage of artifacts between runs."""

    def read_artifact(self, key: str) -> bytes | None:
        """Return an artifact; None if it is not stored."""
        ...

    def write_artifact(self, key: str, content: bytes) -> None:
        """Store an artifact."""
        ...

    def delete_artifact(self, key: str) -> None:
        """Delete an artifact, if it is stored."""
        ...


class Workers(Protocol):
    """Executor of computations, in this process or on Ray's workers."""

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, Made],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        """Yield progress and results of independent jobs as they arrive.

        Args:
            jobs: computations, none of which needs another's result.
            made: artifacts that exist already, by key.
            state: stored state of a job by its key; called when the job starts.
        """
        ...


class LocalWorkers(Workers):
    """Executor that computes jobs in this process, one after the other."""

    @override
    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, Made],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        for job in jobs:
            for step in job.run(made, state(job.key)):
                yield job, step


def build_artifacts(
    trials: Iterable[Trial],
    store: ArtifactStore,
    workers: Workers | None = None,
    report: ReportStep = lambda role, step: None,
) -> dict[str, Made]:
    """Return all artifacts of some trials by key; missing ones are computed and stored.

    An interrupted computation is resumed from its last state or from the parts that are stored.
    In place of an artifact that user-defined code fails to make is the reason, with which the
    trials that need it fail; others can run.

    Raises:
        ArtifactError: if one cannot be made for another reason.
    """
    made: dict[str, Made] = {}
    for trial in trials:
        for artifact in needed_artifacts(trial.config):
            key = artifact.key(trial.config)
            if key not in made:
                maker = _Maker(made, store, workers or LocalWorkers(), report)
                made[key] = store.read_artifact(key) or maker.make(artifact, trial.config)
            if isinstance(made[key], str):  # the trial fails, whatever its other artifacts are
                break
    return made


def artifact_keys(trial: Trial) -> list[str]:
    """Return the keys of the artifacts that ``build_artifacts`` makes for a trial."""
    return [artifact.key(trial.config) for artifact in needed_artifacts(trial.config)]


def missing_artifacts(trials: Iterable[Trial], store: ArtifactStore) -> list[Trial]:
    """Return the trials of which an artifact is not stored or cannot be read."""
    trial_of = {key: trial for trial in trials for key in artifact_keys(trial)}
    return [trial for key, trial in trial_of.items() if store.read_artifact(key) is None]


class _Maker:
    """Computes and stores one artifact from those already made."""

    def __init__(
        self, made: Mapping[str, Made], store: ArtifactStore, workers: Workers, report: ReportStep
    ) -> None:
        self._made, self._store, self._workers, self._report = made, store, workers, report

    def make(self, artifact: Artifact, config: StudyConfig) -> Made:
        """Return an artifact, or the reason why it cannot be made.

        Raises:
            ArtifactError: if no user-defined code is responsible.
        """
        try:
            return self._make(artifact, config)
        except StoreError:
            raise
        except Exception as error:  # of any type, as of user-defined code
            reason = f"{artifact.role} cannot be made: {describe(error)}"
            if not _runs_user_code(config):  # the input is wrong, and no trial can run
                raise ArtifactError(reason) from error
            return reason

    def _make(self, artifact: Artifact, config: StudyConfig) -> bytes:
        """Compute an artifact, its parts as independent jobs if it has any."""
        key, is_local = artifact.key(config), artifact.needs_driver_files(config)
        if artifact.parts is None or artifact.join is None:
            job = Job(key, artifact.compute, config, None, is_local)
            return self._run([job])[key]
        parts = {_part_key(key, part): part for part in artifact.parts(config)}
        jobs = [Job(k, artifact.compute, config, p, is_local) for k, p in parts.items()]
        results = self._run(jobs)
        from dgray.problem.make_shared import shared_of  # torch

        content = artifact.join(
            config,
            shared_of(config, self._made),
            {part: results[part_key] for part_key, part in parts.items()},
        )
        self._store.write_artifact(key, content)
        for part_key in parts:
            self._store.delete_artifact(part_key)
        return content

    def _run(self, jobs: Sequence[Job]) -> dict[str, bytes]:
        """Return the results of jobs by key, each stored on arrival; stored ones are reused."""
        store = self._store
        stored = {job.key: store.read_artifact(job.key) for job in jobs}
        results = {key: content for key, content in stored.items() if content is not None}
        missing = [job for job in jobs if job.key not in results]
        steps = {job.key: Step(int(job.key in results), 1) for job in jobs}
        for job, step in self._workers.make(
            missing, self._made, lambda key: store.read_artifact(key + _STATE)
        ):
            if isinstance(step, bytes):
                store.write_artifact(job.key, step)
                store.delete_artifact(job.key + _STATE)
                results[job.key] = step
                step = Step(1, 1)
            elif step.state is not None:
                store.write_artifact(job.key + _STATE, step.state)
            steps[job.key] = step
            self._report(job.role, _total(list(steps.values()), step))
        return results


def _runs_user_code(config: StudyConfig) -> bool:
    """Return whether artifacts of a study are made with code of another package."""
    is_own = config.data.spec in DATA.built_in and config.base.spec in BASES.built_in
    return not is_own or ":" in config.evaluate.features


def _part_key(key: str, part: SampleRange) -> str:
    return f"{key}.{part.split}-{part.start:07d}"


def _total(steps: Sequence[Step], latest: Step) -> Step:
    """Return the progress of an artifact: of its only job, or the number of finished parts."""
    if len(steps) == 1:
        return Step(latest.done, latest.total, latest.text)
    return Step(sum(step.done == step.total for step in steps), len(steps), "parts")

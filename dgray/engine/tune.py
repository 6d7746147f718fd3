"""Engine that runs each trial as a Ray Tune trial, on one machine or a cluster.

Rows do not pass through Tune: a worker sends each checkpoint to a writer, an actor on the driver's
node, which stores it in the run folder; then the worker reports to Tune. So workers share no disk
with the driver, and a row that was reported is on disk.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dgray.config.resources import Resources
from dgray.config.study import StudyConfig
from dgray.engine.artifact_workers import ArtifactWorkers
from dgray.engine.attempt import Prepare, RunTrial, at_most_every, attempt
from dgray.engine.events import EngineStarted, Observe, PlacesChanged, WorkerLost
from dgray.engine.interrupt import deferred_interrupt
from dgray.engine.nodes import NodeWatch, Places
from dgray.engine.ray_internals import num_restarts, without_driver_variables
from dgray.engine.ray_lifetime import guarded, watched_ray
from dgray.engine.ray_session import environment, ray_session
from dgray.engine.sampling_actors import SamplingActors, num_actors
from dgray.engine.temporary_folder import temporary_folder
from dgray.engine.tune_callback import (
    InterruptedInTune,
    TuneCallback,
    progress_metrics,
    store_failed,
    to_metrics,
)
from dgray.engine.tune_schedule import ScheduleSearcher, tune_config
from dgray.errors import StoreError
from dgray.files import remove_partial_files
from dgray.plan.plan import Trial
from dgray.problem.failure import Made
from dgray.record.row import CheckpointResult
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_REPORT_SECONDS = 2.0  # between two reports about one training
_CHDIR = "RAY_CHDIR_TO_TRIAL_DIR"
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five unused files a trial
    _CHDIR: "0",  # relative paths of a study are relative to the driver's folder
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # its handler ends the study silently
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # the state of all trials, which is never read
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # the schedule limits them; clusters grow for them
}


def run(
    schedule: Schedule,
    folder: RunFolder,
    prepare: Prepare,
    observe: Observe,
    *,
    resume_hint: str = "",
    run_trial: RunTrial | None = None,
) -> None:
    """Complete every trial that can be completed; the others leave failed rows.

    Args:
        schedule: schedule of the trials.
        folder: for results.
        prepare: computes the shared artifacts on given workers.
        observe: called with every event.
        resume_hint: printed by the guard if this process ends without a message.
        run_trial: None for ``dgray.trial.run.run_trial``.

    Raises:
        RunRefusedError: no node can ever hold a trial.
        EngineError: Ray did not start, or died.
        StoreError: results cannot be stored.
    """
    if not schedule.examples:
        return
    config = schedule.examples[0].config
    resources, bundles = config.resources, _bundles(config)
    with (
        _quiet_tune(),
        guarded(resume_hint),
        ray_session() as where,
        watched_ray(observe, where),
    ):
        places = Places(bundles, resources.max_concurrent_trials or math.inf)
        places.refuse_impossible()
        if not places.num_fitting():
            observe(PlacesChanged(num_places=0, waits_for=places.waits_for()))
        workers = ArtifactWorkers(bundles[0], resources.max_failures, observe)
        with contextlib.closing(workers):
            artifacts = prepare(workers)
        with deferred_interrupt() as interrupted:
            num_workers = places.num_fitting()
            observe(EngineStarted(engine="ray", where=where, num_workers=num_workers))
            writer = _start_writer(folder)
            trainable = tune.with_parameters(
                _trainable, artifacts=dict(artifacts), writer=writer, run_trial=run_trial
            )
            trainable = tune.with_resources(trainable, tune.PlacementGroupFactory(bundles))
            running: dict[str, Trial] = {}
            searcher = ScheduleSearcher(schedule, running, places.num_requested)
            callback = TuneCallback(
                schedule, running, folder, observe, interrupted, searcher.repeat
            )
            callbacks = [callback, NodeWatch(places, num_workers, observe)]
            try:
                _fit(trainable, tune_config(schedule, searcher), resources, callbacks)
                callback.check_store()  # a failure of the last trial is followed by no event
            except InterruptedInTune:
                raise KeyboardInterrupt from None
            finally:
                if times := num_restarts(writer):
                    observe(WorkerLost(task="the writer of rows", times=times))
                ray.kill(writer)
                if times:
                    remove_partial_files(folder.path)


def _bundles(config: StudyConfig) -> list[dict[str, float]]:
    """Return a trial's request: its own part, then that of each of its sampling actors."""
    resources = config.resources
    own = _bundle(resources.cpus_per_trial, resources.gpus_per_trial)
    actor = _bundle(resources.cpus_per_actor, resources.gpus_per_actor)
    return [own] + [actor] * num_actors(config)


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})


def _start_writer(folder: RunFolder) -> Any:
    """Start the actor that writes into the run folder, on this node."""
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # A lost call is repeated: writing a checkpoint twice writes the same bytes.
    make = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(RunFolder)
    return make.options(scheduling_strategy=this_node).remote(
        folder.path.absolute(), folder.files.mirror, None, folder.files.seals
    )


def _fit(
    trainable: Any,
    config: tune.TuneConfig,
    resources: Resources,
    callbacks: list[tune.Callback],
) -> None:
    """Run Tune; its own files are temporary, since the rows are the record."""
    with (
        temporary_folder("trials") as storage,
        without_driver_variables(kept=frozenset({_CHDIR})),
    ):
        tuner = tune.Tuner(
            trainable,
            tune_config=config,
            run_config=tune.RunConfig(
                storage_path=str(storage),
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=resources.max_failures),
            ),
        )
        tuner.fit()


class _RemoteFolder:
    """Store of a worker that calls the writer, which may be on another machine."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def missing_epochs(self, trial: Trial) -> list[int]:
        epochs: list[int] = _answer(self._writer.missing_epochs.remote(trial))
        return epochs

    def load_state(self, trial_id: str, epoch: int) -> tuple[int, bytes] | None:
        state: tuple[int, bytes] | None = _answer(self._writer.load_state.remote(trial_id, epoch))
        return state

    def write_result(self, result: CheckpointResult) -> None:
        _answer(self._writer.write_result.remote(result))

    def write_failure(self, trial: Trial, reason: str) -> None:
        _answer(self._writer.write_failure.remote(trial, reason))

    def read_artifact(self, key: str) -> bytes | None:
        content: bytes | None = _answer(self._writer.read_artifact.remote(key))
        return content

    def write_artifact(self, key: str, content: bytes) -> None:
        _answer(self._writer.write_artifact.remote(key, content))

    def delete_artifact(self, key: str) -> None:
        _answer(self._writer.delete_artifact.remote(key))


def _answer(call: Any) -> Any:
    """Return the result of a call of the writer, or raise its error as it was raised there."""
    try:
        return ray.get(call)
    except RayTaskError as error:
        raise error.cause from None


def _trainable(
    config: dict[str, Any],
    artifacts: Mapping[str, Made],
    writer: Any,
    run_trial: RunTrial | None,
) -> None:
    """Run a trial on a worker.

    A trial that raises is a failed trial but no failure to Tune, which retries lost workers only.
    """
    trial: Trial = config["content"].trial
    actors = None
    with contextlib.ExitStack() as stack:
        report = at_most_every(_REPORT_SECONDS, _report_progress)
        if run_trial is None and num_actors(trial.config):
            actors = stack.enter_context(SamplingActors(trial.config, artifacts))
        run_shards = None if actors is None else actors.run_shards
        store = _RemoteFolder(writer)
        try:
            for event in attempt(trial, artifacts, store, run_trial, report, run_shards):
                tune.report(to_metrics(event, actors.times_lost() if actors else 0))
        except StoreError as error:  # it ends the study, not only this trial
            tune.report(store_failed(error))
        except _TrialStoppedError:
            raise SystemExit from None


class _TrialStoppedError(BaseException):
    """Raised when Tune stops a trial that reports progress; no failure of the trial."""


def _report_progress(epochs: float) -> None:
    try:
        tune.report(progress_metrics(epochs))
    except SystemExit as end:
        raise _TrialStoppedError from end


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Silence Tune's tables, tips and stack traces; events and failed rows replace them."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with environment(_TUNE_SETTINGS):
            yield
    finally:
        logger.setLevel(before)

"""Trials as Ray Tune trials, one a training configuration, on whatever workers there are.

Rows do not travel through Tune: a worker hands each checkpoint to a sink on the driver's node,
which writes it into the run folder, and only then reports to Tune. So workers need no disk in
common with the driver, and a row that was reported is on disk. Knows Ray; a trial is a function
to it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dgray.config.study import Resources, StudyConfig
from dgray.engine.artifact_workers import ArtifactWorkers
from dgray.engine.attempt import Prepare, RunTrial, attempt
from dgray.engine.events import EngineStarted, Observe, PlacesChanged, WorkerLost
from dgray.engine.interrupt import deferred_interrupt
from dgray.engine.nodes import NodeWatch, Places
from dgray.engine.ray_internals import num_restarts
from dgray.engine.ray_lifetime import guarded, watched_ray
from dgray.engine.ray_session import environment, ray_session
from dgray.engine.sampling_actors import SamplingActors, num_actors
from dgray.engine.tune_callback import InterruptedInTune, Narrator, store_failed, to_metrics
from dgray.engine.tune_folder import tune_folder
from dgray.engine.tune_schedule import tune_config
from dgray.errors import StoreError
from dgray.files import remove_partial_files
from dgray.plan.plan import Trial
from dgray.record.row import CheckpointResult
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # five files a trial that nobody reads
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a study's relative paths are the driver's
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # its handler ends the study without a word
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # the schedule counts; a cluster may grow for those
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

    ``prepare``: what makes the artifacts, given workers to make them on. ``resume_hint``:
    printed if this process is ended before it can print it itself.
    """
    if not schedule.examples:
        return
    config = schedule.examples[0].config
    resources, bundles = config.resources, _bundles(config)
    with _quiet_tune(), guarded(resume_hint), ray_session() as where, watched_ray(observe):
        places = Places(bundles, resources.max_concurrent_trials or math.inf)
        places.refuse_impossible()
        if not places.num_fitting():
            observe(PlacesChanged(num_places=0, waits_for=places.waits_for()))
        artifacts = prepare(ArtifactWorkers(bundles[0], resources.max_failures, observe))
        with deferred_interrupt() as interrupted:
            num_workers = places.num_fitting()
            observe(EngineStarted(engine="ray", where=where, num_workers=num_workers))
            sink = _start_sink(folder)
            trainable = tune.with_parameters(
                _trainable, artifacts=dict(artifacts), sink=sink, run_trial=run_trial
            )
            trainable = tune.with_resources(trainable, tune.PlacementGroupFactory(bundles))
            given: dict[str, Trial] = {}
            narrator = Narrator(schedule, given, folder, observe, interrupted)
            callbacks = [narrator, NodeWatch(places, num_workers, observe)]
            try:
                settings = tune_config(schedule, given, places.num_requested)
                _fit(trainable, settings, resources, callbacks)
                narrator.check_store()  # of the last trial nothing came after it
            except InterruptedInTune:
                raise KeyboardInterrupt from None
            finally:
                if times := num_restarts(sink):
                    observe(WorkerLost(what="the writer of rows", times=times))
                ray.kill(sink)
                if times:
                    remove_partial_files(folder.path)


def _bundles(config: StudyConfig) -> list[dict[str, float]]:
    """What a trial asks Ray for: its own part, then that of each of its sampling actors."""
    resources = config.resources
    own = _bundle(resources.cpus_per_trial, resources.gpus_per_trial)
    actor = _bundle(resources.cpus_per_actor, resources.gpus_per_actor)
    return [own] + [actor] * num_actors(config)


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})


def _start_sink(folder: RunFolder) -> Any:
    """The actor that writes into the run folder, on this node, where the folder is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Writing a checkpoint twice writes the same bytes, so a lost call may simply be made again.
    make = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(RunFolder)
    return make.options(scheduling_strategy=here).remote(
        folder.path.absolute(), folder.files.mirror
    )


def _fit(
    trainable: Any,
    config: tune.TuneConfig,
    resources: Resources,
    callbacks: list[tune.Callback],
) -> None:
    """Tune's own files go to a folder that is removed: the rows are the record."""
    with tune_folder() as storage:
        tuner = tune.Tuner(
            trainable,
            tune_config=config,
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=resources.max_failures),
            ),
        )
        tuner.fit()


class _RemoteFolder:
    """The run folder as a worker sees it, perhaps from another machine."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def load_state(self, trial_id: str, epochs: Sequence[int]) -> tuple[int, bytes] | None:
        state: tuple[int, bytes] | None = _told(self._sink.load_state.remote(trial_id, epochs))
        return state

    def write_result(self, result: CheckpointResult) -> None:
        _told(self._sink.write_result.remote(result))

    def write_failure(self, trial: Trial, reason: str) -> None:
        _told(self._sink.write_failure.remote(trial, reason))


def _told(answer: Any) -> Any:
    """What the sink answers; its error as it was raised there."""
    try:
        return ray.get(answer)
    except RayTaskError as error:
        raise error.cause from None


def _trainable(
    config: dict[str, Any],
    artifacts: Mapping[str, bytes],
    sink: Any,
    run_trial: RunTrial | None,
) -> None:
    """Runs on a worker. A trial that raises ends well here: Tune tries again only lost workers."""
    trial: Trial = config["content"].trial
    actors = None
    with contextlib.ExitStack() as stack:
        if run_trial is None and num_actors(trial.config):
            from dgray.trial import run as trial_run  # torch: for workers only

            actors = stack.enter_context(SamplingActors(trial.config, artifacts))
            run_trial = functools.partial(trial_run.run_trial, run_shards=actors.run_shards)
        try:
            for event in attempt(trial, artifacts, _RemoteFolder(sink), run_trial):
                tune.report(to_metrics(event, actors.times_lost() if actors else 0))
        except StoreError as error:  # not lost with this worker: it ends the study
            tune.report(store_failed(error))


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune's tables, tips and stack traces are replaced by events and failed rows."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with environment(_TUNE_SETTINGS):
            yield
    finally:
        logger.setLevel(before)

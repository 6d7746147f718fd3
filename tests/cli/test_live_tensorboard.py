"""Event files of a running study, and of a resumed one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dgray.cli.live_tensorboard import LiveTensorBoard
from dgray.engine import local
from dgray.engine.attempt import RunTrial
from dgray.engine.events import CheckpointDone, EngineStarted
from dgray.plan.plan import Plan, Trial
from dgray.record.row import CheckpointResult, Resume, no_state
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import ARTIFACTS, EPOCHS, fake_trial, make_plan, make_trial, prepare
from tests.reporting.event_files import columns, read

PATIENCE = 30.0  # seconds; a checkpoint takes milliseconds


TAG = "at w=1, base unguided/path_kl"


def run(plan: Plan, folder: RunFolder, run_trial: RunTrial = fake_trial) -> LiveTensorBoard:
    with LiveTensorBoard(plan, folder) as live:
        local.run(
            GridSchedule(plan.trials, folder), folder, prepare, live.observe, run_trial=run_trial
        )
    return live


def events_of(folder: RunFolder, label: str) -> EventAccumulator:
    (path,) = (folder.path / "tensorboard").glob(f"{label} (*")
    return read(path)


def steps(folder: RunFolder, label: str, tag: str = TAG) -> list[int]:
    return [point.step for point in events_of(folder, label).Scalars(tag)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_event_files_grow_with_every_checkpoint_of_a_running_study(tmp_path: Path) -> None:
    folder, sizes = RunFolder(tmp_path), [0]

    def written() -> int:
        return sum(path.stat().st_size for path in tmp_path.rglob("events.out.tfevents.*"))

    def waiting_trial(
        trial: Trial, artifacts: Mapping[str, bytes], *, resume: Resume = no_state
    ) -> Iterator[CheckpointResult]:
        for result in fake_trial(trial, artifacts, resume=resume):
            yield result  # on return its rows are stored and its event was reported
            wait_for(partial(_shows, folder, trial.label, result.epoch))
            assert written() > sizes[-1]
            sizes.append(written())

    plan = make_plan(make_trial("kl-1"), make_trial("kl-2"))
    live = run(plan, folder, waiting_trial)
    assert live.failure is None
    assert folder.missing_rows(plan.trials) == 0
    assert len(sizes) == 1 + 2 * len(EPOCHS)
    assert steps(folder, "kl-2") == list(EPOCHS)


def _shows(folder: RunFolder, label: str, epoch: int) -> bool:
    if not any((folder.path / "tensorboard").glob(f"{label} (*/events*")):
        return False
    has_metrics = TAG in events_of(folder, label).Tags()["scalars"]
    return has_metrics and epoch in steps(folder, label)


def test_study_does_not_wait_for_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()
    read_rows = RunFolder.read_rows

    def read_late(self: RunFolder, trial_id: str, epoch: int) -> object:
        assert may_write.wait(PATIENCE)
        return read_rows(self, trial_id, epoch)

    monkeypatch.setattr(RunFolder, "read_rows", read_late)
    folder, plan = RunFolder(tmp_path), make_plan(make_trial("kl-1"))
    with LiveTensorBoard(plan, folder) as live:
        local.run(
            GridSchedule(plan.trials, folder), folder, prepare, live.observe, run_trial=fake_trial
        )
        assert folder.missing_rows(plan.trials) == 0
        may_write.set()
    assert live.failure is None
    assert steps(folder, "kl-1") == list(EPOCHS)


def test_resumed_run_writes_earlier_results_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = make_plan(make_trial("kl-1"), make_trial("kl-2", raise_at=EPOCHS[1]))
    run(first, folder)
    assert steps(folder, "kl-2") == [EPOCHS[0]]
    second = make_plan(make_trial("kl-1"), make_trial("kl-2"), make_trial("kl-3"))
    assert run(second, folder).failure is None
    for label in ("kl-1", "kl-2", "kl-3"):
        assert steps(folder, label) == list(EPOCHS)
    chosen = [p.value for p in events_of(folder, "kl-2").Scalars("best/validation_change")]
    assert chosen == sorted(chosen, reverse=True)  # the best before the interruption is known
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


def test_hparams_tab_has_all_values_of_the_study(tmp_path: Path) -> None:
    trials = [
        make_trial(f"kl-{i}", **{"fit.dropout": i / 10, "raise_at": EPOCHS[0]}) for i in (1, 2)
    ]
    run(make_plan(*trials), RunFolder(tmp_path))
    values, _ = columns(tmp_path / "tensorboard")
    assert values["objective"] == ["kl"]
    assert values["fit.dropout"] == [0.1, 0.2]


def test_error_of_the_writer_does_not_end_the_study(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    folder, plan = RunFolder(tmp_path), make_plan(make_trial("kl-1"))
    live = run(plan, folder)
    assert isinstance(live.failure, OSError)
    assert folder.missing_rows(plan.trials) == 0


def test_nothing_is_written_when_nothing_runs(tmp_path: Path) -> None:
    folder, plan = RunFolder(tmp_path), make_plan(make_trial("kl-1"))
    for result in fake_trial(plan.trials[0], ARTIFACTS):
        folder.write_result(result)
    with LiveTensorBoard(plan, folder) as live:
        live.observe(EngineStarted(engine="local", where="here", num_workers=1))
        live.observe(CheckpointDone(trial_id="kl-1", epoch=2, rows_done=4, best=None))
    assert not (tmp_path / "tensorboard").exists()

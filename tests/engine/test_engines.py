"""Conformance suite of both engines, with a trial function that costs nothing."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from dgray.engine import local
from dgray.engine.events import (
    CheckpointDone,
    EngineStarted,
    Event,
    TrialFailed,
    TrialFinished,
    TrialStarted,
)
from dgray.errors import StoreError
from dgray.plan.plan import Plan
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import (
    ARTIFACTS,
    EPOCHS,
    fake_trial,
    make_plan,
    make_trial,
    prepare,
)

Run = Callable[[Plan, RunFolder], list[Event]]


@dataclass(frozen=True)
class Session:
    """A plan that was run, with what its engine did."""

    plan: Plan
    folder: RunFolder
    events: list[Event]
    log: Path  # a line for each computed checkpoint, also of later sessions
    computed: list[str]  # its lines


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def run(request: pytest.FixtureRequest) -> Run:
    """Function that runs a plan with one engine and returns the events."""
    if request.param == "local":
        engine = local.run
    else:
        request.getfixturevalue("ray_running")
        from dgray.engine import tune

        engine = tune.run

    def run_plan(plan: Plan, folder: RunFolder) -> list[Event]:
        events: list[Event] = []
        engine(
            GridSchedule(plan.trials, folder), folder, prepare, events.append, run_trial=fake_trial
        )
        return events

    return run_plan


def table(folder: RunFolder) -> pd.DataFrame:
    """Return all columns but the provenance, sorted."""
    rows = folder.rows()[column_names("identity", "metric")]
    keys = ["trial", "replicate", "epoch", "is_calibrated"]
    return rows.sort_values(keys).reset_index(drop=True)


def expected(plan: Plan, path: Path) -> pd.DataFrame:
    """Return the rows that the trial function gives without an engine."""
    folder = RunFolder(path)
    for trial in plan.trials:
        for result in fake_trial(trial, ARTIFACTS):
            folder.write_result(result)
    return table(folder)


@pytest.fixture(scope="module")
def session(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Five trials, run once for each engine; read only."""
    path = tmp_path_factory.mktemp("session")
    log = path / "log"
    plan = make_plan(*(make_trial(f"kl-{i}", log=str(log)) for i in range(5)))
    folder = RunFolder(path / "run")
    events = run(plan, folder)
    return Session(plan, folder, events, log, log.read_text().splitlines())


def copy(session: Session, path: Path) -> RunFolder:
    shutil.copytree(session.folder.path, path)
    return RunFolder(path)


def test_rows_are_those_of_the_trial_function(session: Session, tmp_path: Path) -> None:
    plan, folder, events = session.plan, session.folder, session.events
    pd.testing.assert_frame_equal(
        table(folder), expected(plan, tmp_path / "expected"), check_exact=True
    )
    assert len(folder.clouds()) == len(folder.losses()) == 5 * len(EPOCHS)
    assert folder.missing_rows(plan.trials) == 0
    assert isinstance(events[0], EngineStarted)
    for trial in plan.trials:
        of_trial = [e for e in events if getattr(e, "trial_id", None) == trial.id]
        assert [type(e) for e in of_trial] == [
            TrialStarted,
            *[CheckpointDone] * len(EPOCHS),
            TrialFinished,
        ]
        done = [e for e in of_trial if isinstance(e, CheckpointDone)]
        assert [e.epoch for e in done] == list(EPOCHS)
        for event in done:
            assert_best_is_chosen_by_the_validation_split(event, folder.rows())


def assert_best_is_chosen_by_the_validation_split(
    event: CheckpointDone, rows: pd.DataFrame
) -> None:
    of_checkpoint = rows[(rows.trial == event.trial_id) & (rows.epoch == event.epoch)]
    assert event.best is not None
    assert event.best.weight is None  # of the two weights, the one the fake validation prefers
    assert event.best.value == pytest.approx(
        of_checkpoint[of_checkpoint.is_calibrated].path_kl.mean(), rel=1e-12
    )
    assert event.rows_done == 4


def test_trials_that_fail_leave_rows_with_the_reason_and_the_others_go_on(
    run: Run, tmp_path: Path
) -> None:
    failing = {
        "bad": make_trial("bad", raise_at=EPOCHS[1]),
        "short": make_trial("short", num_rows=3),
        "full": make_trial("full", exhaust_memory_at=EPOCHS[1]),
        "nan": make_trial("nan", nan_at=EPOCHS[1]),
    }
    plan = make_plan(make_trial("kl-1"), *failing.values(), make_trial("kl-2"))
    folder = RunFolder(tmp_path)
    events = run(plan, folder)
    reasons = {
        "bad": r"ValueError: width must be > 0, but got 0 at epoch 5 \(fake_trial.py:\d+\)",
        "short": "checkpoint 2 with 4 rows was due, but the trial gave checkpoint 2 with 3 rows",
        "full": r"MemoryError.*; it ran out of memory: lower evaluate.batch_size.*",
        "nan": r"every metric must be a number, infinity included, but at epoch 5 path_kl, "
        r"path_kl_bins, validation_change is nan; lower fit.learning_rate",
    }
    failures = {e.trial_id: e.reason for e in events if isinstance(e, TrialFailed)}
    rows = folder.rows()
    failed = rows[rows.status == "failed"]
    assert set(failed.trial) == set(failures) == set(failing)
    for name, reason in reasons.items():
        assert re.fullmatch(reason, failures[name]), failures[name]
        of_trial = failed[failed.trial == name]
        assert set(of_trial.reason) == {failures[name]}
        missing = EPOCHS if name == "short" else EPOCHS[1:]
        assert sorted(of_trial.epoch) == [epoch for epoch in missing for _ in range(4)]
        assert folder.completed_epochs(name) == set(EPOCHS) - set(missing)
    assert folder.missing_rows(plan.trials) == 12 + 3 * 8
    assert {e.trial_id for e in events if isinstance(e, TrialFinished)} == {"kl-1", "kl-2"}
    assert folder.completed_epochs("kl-1") == folder.completed_epochs("kl-2") == set(EPOCHS)


def test_a_trial_beyond_its_time_limit_fails_and_the_next_session_resumes_it(
    run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    log = tmp_path / "log"
    # Ray kills a hung trial; the local engine checks the time between checkpoints only.
    slow = {"hang_at": EPOCHS[0]} if "ray" in request.node.name else {"seconds": 0.1}
    late = make_trial("late", time_limit=0.01, log=str(log), **slow)
    plan = make_plan(late, make_trial("kl-1"))
    folder = RunFolder(tmp_path / "run")
    events = run(plan, folder)
    (failure,) = [e for e in events if isinstance(e, TrialFailed)]
    assert failure.trial_id == "late"
    assert failure.reason.startswith("it took longer than resources.trial_time_limit, 0.01 s")
    rows = folder.rows()
    assert set(rows[rows.status == "failed"].reason) == {failure.reason}
    assert folder.completed_epochs("kl-1") == set(EPOCHS)
    begun = (
        log.read_text().splitlines() if log.exists() else []
    )  # it may end before its first word
    assert len(begun) <= 1  # it was not tried again in this session
    patient = make_plan(make_trial("late"), make_trial("kl-1"))
    run(patient, folder)
    pd.testing.assert_frame_equal(
        table(folder)[["trial", "epoch", "path_kl"]],
        expected(patient, tmp_path / "expected")[["trial", "epoch", "path_kl"]],
        check_exact=True,
    )


def test_an_error_of_the_store_ends_the_study_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("no folder")
    with pytest.raises(StoreError, match=r"File exists: .*rows"):
        run(make_plan(make_trial("kl-1")), RunFolder(tmp_path))


def test_a_failed_trial_is_tried_again_from_its_last_checkpoint(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    bad = make_trial("kl-1", raise_at=EPOCHS[2], log=str(log))
    folder = RunFolder(tmp_path / "run")
    run(make_plan(bad), folder)
    mended = dataclasses.replace(bad, axes={"log": str(log)})
    run(make_plan(mended), folder)
    assert log.read_text().split("\n")[:-1] == ["kl-1 2", "kl-1 5", "kl-1 9", "kl-1 9"]
    whole = expected(make_plan(mended), tmp_path / "expected")
    assert (folder.rows().status == "ok").all()
    assert table(folder).path_kl.tolist() == whole.path_kl.tolist()


def test_completed_trials_are_not_run_again(run: Run, session: Session, tmp_path: Path) -> None:
    assert len(session.computed) == 5 * len(EPOCHS)
    before = session.log.read_text()
    again = run(session.plan, copy(session, tmp_path / "run"))
    assert session.log.read_text() == before
    assert not [e for e in again if isinstance(e, CheckpointDone | TrialStarted)]


def test_a_lost_checkpoint_is_computed_again(run: Run, session: Session, tmp_path: Path) -> None:
    folder, before = copy(session, tmp_path / "run"), session.log.read_text()
    (folder.path / "rows" / f"kl-1-{EPOCHS[1]:06d}.parquet").unlink()
    run(session.plan, folder)
    pd.testing.assert_frame_equal(table(folder), table(session.folder), check_exact=True)
    # Not 9, which is there.
    assert session.log.read_text().removeprefix(before).splitlines() == ["kl-1 5"]


DRIVER = """
import importlib, sys
from pathlib import Path
from dgray.record.run_folder import RunFolder
from dgray.engine.events import WorkerLost
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import fake_trial, make_plan, make_trial, prepare

if __name__ == "__main__":
    engine, folder, marker, log = sys.argv[1:]
    plan = make_plan(*(make_trial(f"kl-{i}", die_once=marker, log=log) for i in range(3)))
    run = importlib.import_module(f"dgray.engine.{engine}").run
    store = RunFolder(Path(folder))
    schedule = GridSchedule(plan.trials, store)
    events = []
    run(schedule, store, prepare, events.append, run_trial=fake_trial)
    for event in events:
        if isinstance(event, WorkerLost):
            print(event.task, event.times)
"""


def drive(engine: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    root = str(Path(__file__).parents[2])
    arguments = [engine, tmp_path / "run", tmp_path / "marker", tmp_path / "log"]
    return subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_equals_uninterrupted(tmp_path: Path) -> None:
    axes = {"die_once": str(tmp_path / "marker"), "log": str(tmp_path / "log2")}
    plan = make_plan(*(make_trial(f"kl-{i}", **axes) for i in range(3)))
    whole = expected(plan, tmp_path / "expected")
    resumed = table(RunFolder(tmp_path / "run"))
    same = [name for name in resumed if name != "axes"]  # which hold the paths of the logs
    pd.testing.assert_frame_equal(resumed[same], whole[same], check_exact=True)


def test_a_driver_that_dies_is_resumed_where_its_rows_end(tmp_path: Path) -> None:
    first = drive("local", tmp_path)
    assert first.returncode == 7, first.stderr
    assert RunFolder(tmp_path / "run").completed_epochs("kl-0") == {EPOCHS[0]}
    second = drive("local", tmp_path)
    assert second.returncode == 0, second.stderr
    assert_equals_uninterrupted(tmp_path)
    repeated = (tmp_path / "log").read_text().splitlines()
    assert repeated.count("kl-0 2") == 1
    assert repeated.count("kl-0 5") == 2
    assert len(repeated) == 3 * len(EPOCHS) + 1


@pytest.mark.ray
def test_a_worker_that_dies_is_replaced_and_resumes_where_its_rows_end(tmp_path: Path) -> None:
    done = drive("tune", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "marker").exists()
    assert_equals_uninterrupted(tmp_path)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) - len(set(lines)) in (1, 2)  # 2: both workers saw the marker missing
    losses = done.stdout.splitlines()
    assert len(losses) == len(lines) - len(set(lines))
    assert all(re.fullmatch(r"kl-\d 1", line) for line in losses), losses
    assert all(lines.count(f"kl-{i} {EPOCHS[0]}") == 1 for i in range(3))

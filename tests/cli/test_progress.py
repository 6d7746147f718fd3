"""Progress view on a terminal and in a log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dgray.cli.progress import Progress
from dgray.engine import local
from dgray.engine.events import (
    BestSetting,
    CheckpointDone,
    EngineStarted,
    PlacesChanged,
    TrialFailed,
)
from dgray.plan.plan import Plan
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import EPOCHS, fake_trial, make_plan, make_trial, prepare


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(plan: Plan, folder: RunFolder, console: Console) -> Progress:
    with Progress(GridSchedule(plan.trials, folder), folder, console) as progress:
        local.run(
            GridSchedule(plan.trials, folder),
            folder,
            prepare,
            progress.observe,
            run_trial=fake_trial,
        )
    return progress


def screen(progress: Progress) -> str:
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    console.print(progress.render())
    return text_of(console)


def test_one_line_per_checkpoint_without_a_terminal(tmp_path: Path) -> None:
    console = plain_console()
    plan = make_plan(make_trial("kl-1"), make_trial("bad [red]", raise_at=EPOCHS[0]))
    progress = run(plan, RunFolder(tmp_path), console)
    lines = text_of(console).splitlines()
    assert "\x1b" not in text_of(console)
    assert lines[0] == "trials to run: 2 (1 at a time, using this process)"
    assert [line.split(":")[0] for line in lines[1:4]] == [
        f"{i}/6 kl-1, epoch {epoch}" for i, epoch in enumerate(EPOCHS, 1)
    ]
    assert "path_kl" in lines[1]
    assert "with the calibrated weight" in lines[1]
    assert lines[4].startswith("FAILED bad [red]: ValueError: width must be > 0, but got 0")
    assert len(lines) == 5
    assert list(progress.failures) == ["bad [red]"]


def test_a_resumed_run_counts_existing_checkpoints(tmp_path: Path) -> None:
    folder, plan = RunFolder(tmp_path), make_plan(make_trial("kl-1"), make_trial("kl-2"))
    run(make_plan(make_trial("kl-1")), folder, plain_console())
    console = plain_console()
    run(plan, folder, console)
    lines = text_of(console).splitlines()
    assert lines[0].startswith("trials to run: 1 (")
    assert lines[1].startswith("4/6 kl-2, epoch 2")


def test_the_view_shows_counts_and_the_best_setting_on_validation_data(tmp_path: Path) -> None:
    plan = make_plan(make_trial("kl-1"), make_trial("kl-2"))
    progress = Progress(
        GridSchedule(plan.trials, RunFolder(tmp_path)), RunFolder(tmp_path), plain_console()
    )
    progress.observe(EngineStarted(engine="ray", where="a cluster", num_workers=2))
    assert "unknown time left" in screen(progress)
    for epoch, value, validation in ((2, 0.9, -0.1), (5, 0.7, -0.5), (9, 0.4, -0.3)):
        best = BestSetting(
            metric="path_kl", value=value, change=-0.2, weight=1.0, validation_change=validation
        )
        progress.observe(CheckpointDone(trial_id="kl-1", epoch=epoch, rows_done=4, best=best))
    shown = screen(progress)
    assert "3/6 checkpoints" in shown
    assert "1/2 trials" in shown
    assert (
        "path_kl 0.7 (-0.2 relative to the base) with w = 1" in shown
    )  # not 0.4, the held-out best
    assert "kl-1, epoch 5" in shown
    progress.observe(TrialFailed(trial_id="kl-2", reason="x"))
    assert "1 failed" in screen(progress)


def test_waiting_for_nodes_is_shown(tmp_path: Path) -> None:
    console = plain_console()
    plan = make_plan(make_trial("kl-1"), make_trial("kl-2"))
    folder = RunFolder(tmp_path)
    progress = Progress(GridSchedule(plan.trials, folder), folder, console)
    progress.observe(PlacesChanged(num_places=0, waits_for="waiting for the autoscaler: why"))
    assert "waiting for the autoscaler: why" in screen(progress)
    progress.observe(EngineStarted(engine="ray", where="a cluster", num_workers=0))
    progress.observe(PlacesChanged(num_places=2, waits_for=None))
    assert "waiting" not in screen(progress)
    assert "2 at a time, using a cluster" in screen(progress)
    assert text_of(console).splitlines() == [
        "waiting for the autoscaler: why",
        "trials to run: 2 (0 at a time, using a cluster)",
        "now 2 at a time, using a cluster",
    ]


def test_time_left_follows_the_speed_of_this_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("dgray.cli.progress.time.monotonic", lambda: clock[0])
    folder = RunFolder(tmp_path)
    run(make_plan(make_trial("kl-1")), folder, plain_console())  # an earlier session
    plan = make_plan(*(make_trial(f"kl-{i}") for i in range(1, 4)))  # two of equal cost to go
    progress = Progress(GridSchedule(plan.trials, folder), folder, plain_console())
    progress.observe(EngineStarted(engine="ray", where="a cluster", num_workers=2))
    clock[0] += 30.0
    progress.observe(CheckpointDone(trial_id="kl-2", epoch=2, rows_done=4, best=None))
    assert "2 min 30 s left" in screen(progress)  # 1 of 6 checkpoints took 30 s
    progress.observe(TrialFailed(trial_id="kl-2", reason="x"))
    assert "1 min 30 s left" in screen(progress)  # its other two will not be run


def test_a_terminal_shows_one_live_view(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    run(make_plan(make_trial("kl-1")), RunFolder(tmp_path), console)
    last = text_of(console)[text_of(console).rindex("checkpoints") - 5 :]
    assert last.startswith("3/3 ") or "3/3" in last
    assert "1/3 kl-1, epoch 2" not in text_of(console)  # no lines beside the view

"""Progress view on a terminal and in a log."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from dgray.cli.progress import Progress
from dgray.cli.time_left import MAX_GROWTH, TimeLeft
from dgray.engine import local
from dgray.engine.events import (
    BestSetting,
    CheckpointDone,
    EngineStarted,
    PlacesChanged,
    TrialFailed,
    TrialProgress,
    TrialStarted,
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


def progress_of(plan: Plan, folder: RunFolder, console: Console) -> Progress:
    time_left = TimeLeft(artifact_seconds=0.0, report_seconds=5.0, parallel=2)
    return Progress(GridSchedule(plan.trials, folder), folder, console, time_left)


def run(plan: Plan, folder: RunFolder, console: Console) -> Progress:
    with progress_of(plan, folder, console) as progress:
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
    plan = make_plan(make_trial("kl-1"), make_trial("bad[red]", raise_at=EPOCHS[0]))
    progress = run(plan, RunFolder(tmp_path), console)
    lines = text_of(console).splitlines()
    assert "\x1b" not in text_of(console)
    assert lines[0].startswith("estimated time: ")
    assert lines[1] == "trials to run: 2 (1 at a time, using this process)"
    assert [line.split(":")[0] for line in lines[2:5]] == [
        f"{i}/6 kl-1, epoch {epoch}" for i, epoch in enumerate(EPOCHS, 1)
    ]
    assert "path_kl" in lines[2]
    assert "with the calibrated weight" in lines[2]
    assert lines[5].startswith("FAILED bad[red]: ValueError: width must be > 0, but got 0")
    assert len(lines) == 6
    assert list(progress.failures) == ["bad[red]"]


def test_a_resumed_run_counts_existing_checkpoints(tmp_path: Path) -> None:
    folder, plan = RunFolder(tmp_path), make_plan(make_trial("kl-1"), make_trial("kl-2"))
    run(make_plan(make_trial("kl-1")), folder, plain_console())
    console = plain_console()
    run(plan, folder, console)
    lines = text_of(console).splitlines()
    assert lines[1].startswith("trials to run: 1 (")
    assert lines[2].startswith("4/6 kl-2, epoch 2")


def test_the_view_shows_counts_and_the_best_setting_on_validation_data(tmp_path: Path) -> None:
    plan = make_plan(make_trial("kl-1"), make_trial("kl-2"))
    progress = progress_of(plan, RunFolder(tmp_path), plain_console())
    progress.observe(EngineStarted(engine="ray", where="a cluster", num_workers=2))
    assert "s left" in screen(progress)
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
    progress = progress_of(plan, folder, console)
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


def test_the_view_moves_within_a_training(tmp_path: Path) -> None:
    plan = make_plan(make_trial("kl-1"))
    progress = progress_of(plan, RunFolder(tmp_path), plain_console())
    progress.observe(EngineStarted(engine="local", where="this process", num_workers=1))
    progress.observe(TrialStarted(trial_id="kl-1", label="kl-1"))
    progress.observe(TrialProgress(trial_id="kl-1", epochs=0.5))
    assert "running: kl-1, epoch 0.5 of 9" in screen(progress)
    progress.observe(TrialProgress(trial_id="kl-1", epochs=2.0))
    assert "running: kl-1, evaluating epoch 2" in screen(progress)


WORK = {10: (10.0, 5.0), 40: (30.0, 5.0), 160: (120.0, 5.0)}


class Simulation:
    """Trials of equal work on two workers, at a speed that differs from the plan's.

    Args:
        speed: planned seconds that are done in a second, at a time.
        interval: seconds between two reports of a training; None: none.
    """

    def __init__(self, speed: Callable[[float], float], interval: float | None) -> None:
        self.now, self.speed, self.interval = 0.0, speed, interval
        self.left = TimeLeft(
            artifact_seconds=20.0, report_seconds=10.0, parallel=2, clock=lambda: self.now
        )
        self.shown: list[tuple[float, str]] = []
        for number in range(6):
            self.left.add(str(number), WORK, WORK)

    def run(self) -> list[tuple[float, str]]:
        """Return the time left and the reason, every second until the last trial has ended."""
        for second in range(10):
            self.left.set_artifact_share("base", second / 10)
            self._show()
        self.left.note_engine_start()
        waiting, running = [str(number) for number in range(6)], dict[str, float]()
        while waiting or running:
            while waiting and len(running) < 2:
                running[waiting.pop()] = 0.0
                self.left.note_trial_start(list(running)[-1])
            for trial in list(running):
                running[trial] = self._work_on(trial, running[trial])
                if running[trial] >= sum(map(sum, WORK.values())):
                    del running[trial]
                    self.left.note_trial_end(trial)
            self._show()
        return self.shown

    def _work_on(self, trial: str, done: float) -> float:
        after, start, last = done + self.speed(self.now), 0.0, 0
        for epoch, (fit, evaluation) in WORK.items():
            if done < start + fit and self.interval and self.now % self.interval < 1:
                share = min(1.0, (after - start) / fit)
                if share >= 0:
                    self.left.set_epochs(trial, last + share * (epoch - last))
            start, last = start + fit + evaluation, epoch
            if done < start <= after:
                self.left.note_checkpoint(trial, epoch)
        return after

    def _show(self) -> None:
        self.now += 1.0
        self.shown.append((self.left.seconds(), self.left.reason))


SPEEDS: dict[str, Callable[[float], float]] = {
    "as planned": lambda now: 1.0,
    "twice as fast": lambda now: 2.0,
    "four times as slow": lambda now: 0.25,
    "slower later": lambda now: 1.0 if now < 200 else 0.4,
    "in bursts": lambda now: 2.0 if now % 20 < 10 else 0.2,
}


@pytest.mark.parametrize("interval", [2.0, None], ids=["reports", "no reports"])
@pytest.mark.parametrize("speed", SPEEDS)
def test_time_left_never_grows_by_a_fifth_without_a_reason(
    speed: str, interval: float | None
) -> None:
    shown = Simulation(SPEEDS[speed], interval).run()
    lowest, reason = shown[0]
    for left, current in shown:
        if left > lowest * MAX_GROWTH * (1 + 1e-9):
            assert current != reason
            lowest = left
        lowest, reason = min(lowest, left), current
    if speed in ("as planned", "twice as fast"):
        assert shown[-1][1] == ""


def test_time_left_is_the_plan_at_first_and_then_follows_the_speed() -> None:
    total = 6 * sum(map(sum, WORK.values())) / 2
    shown = [left for left, _ in Simulation(SPEEDS["as planned"], 2.0).run()]
    assert shown[0] == pytest.approx(total + 20 + 10, rel=0.05)
    for second, left in enumerate(shown[15:], 15):
        assert left == pytest.approx(total + 10 + 10 - second, abs=0.1 * total)
    fast = [left for left, _ in Simulation(SPEEDS["twice as fast"], 2.0).run()]
    middle = len(fast) // 2
    assert fast[middle] == pytest.approx(len(fast) - middle + 10, rel=0.3)


def test_fewer_places_are_a_reason() -> None:
    left = TimeLeft(artifact_seconds=0.0, report_seconds=0.0, parallel=4)
    for number in range(8):
        left.add(str(number), WORK, WORK)
    left.note_engine_start()
    before = left.seconds()
    left.set_places(1)
    assert left.seconds() == pytest.approx(4 * before)
    assert left.reason == "only 1 at a time"


def test_failed_trials_take_no_more_time() -> None:
    left = TimeLeft(artifact_seconds=0.0, report_seconds=0.0, parallel=1)
    left.add("a", WORK, WORK)
    left.add("b", WORK, WORK)
    left.note_engine_start()
    before = left.seconds()
    left.note_trial_end("a")
    assert left.seconds() == pytest.approx(before / 2)


def test_a_terminal_shows_one_live_view(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    run(make_plan(make_trial("kl-1")), RunFolder(tmp_path), console)
    last = text_of(console)[text_of(console).rindex("checkpoints") - 5 :]
    assert last.startswith("3/3 ") or "3/3" in last
    assert "1/3 kl-1, epoch 2" not in text_of(console)  # no lines beside the view

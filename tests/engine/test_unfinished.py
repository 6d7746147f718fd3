"""Training states between checkpoints: a lost worker costs a minute of training, and no number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgray.engine import attempt as attempts
from dgray.engine.attempt import attempt
from dgray.plan.plan import Trial
from dgray.problem.failure import Made
from dgray.problem.shared import build_artifacts
from dgray.record.run_folder import RunFolder
from dgray.trial import run as trial_run
from tests.trial.test_run import Memory, plan_of

LONG = (
    "fit.epochs=20",
    "fit.checkpoints=[3, 20]",
    "fit.ema_decay=0.9",
    "fit.patience=10",
    "fit.validate_every=2",
    "evaluate.metrics=[path_kl]",
)
TIMES = ("seconds_fit", "seconds_evaluate", "finished_at")


class Lost(BaseException):
    """End of a worker."""


class Worker:
    """Runs trials until it has stored some states; notes the epochs from which it starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: list[int] = []
        self.left = 1000
        original = trial_run.run_trial

        def run_trial(
            trial: Trial, artifacts: Mapping[str, Made], **options: Any
        ) -> Iterator[Any]:
            resume, save = options.pop("resume"), options.pop("save")

            def noted(epoch: int) -> tuple[int, bytes] | None:
                stored: tuple[int, bytes] | None = resume(epoch)
                self.starts.append(0 if stored is None else stored[0])
                return stored

            def counted(epoch: int, state: Callable[[], bytes]) -> None:
                save(epoch, state)
                self.left -= 1
                if not self.left:
                    raise Lost

            yield from original(trial, artifacts, resume=noted, save=counted, **options)

        monkeypatch.setattr(trial_run, "run_trial", run_trial)
        monkeypatch.setattr(attempts, "SAVE_SECONDS", 0.0)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return plan_of(tmp_path_factory.mktemp("study"), *LONG)[-1]


@pytest.fixture(scope="module")
def artifacts(trial: Trial) -> Mapping[str, Made]:
    return build_artifacts([trial], Memory())


def record(folder: RunFolder, trial: Trial) -> tuple[Any, ...]:
    results = [folder.read_result(trial.id, epoch) for epoch in trial.epochs]
    rows = [replace(row, **dict.fromkeys(TIMES)) for r in results for row in r.rows]
    return rows, [r.losses for r in results], [r.state for r in results]


def states(folder: RunFolder) -> list[Path]:
    return [*(folder.path / "artifacts").glob("*.state")]


@pytest.fixture(scope="module")
def undisturbed(
    trial: Trial, artifacts: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, ...]:
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed"))
    assert len([*attempt(trial, artifacts, folder, None)]) == len(trial.epochs)
    assert not states(folder)
    return record(folder, trial)


def test_a_lost_worker_costs_no_number(
    worker: Worker,
    trial: Trial,
    artifacts: Mapping[str, Made],
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    for saves in (1, 2, 3):  # one before the first checkpoint, others before the second
        worker.left = saves
        with pytest.raises(Lost):
            list(attempt(trial, artifacts, folder, None))
        assert len(states(folder)) == 1
    worker.left = 1000
    assert [event.epoch for event in attempt(trial, artifacts, folder, None)] == [20]  # type: ignore[union-attr]
    assert record(folder, trial) == undisturbed
    assert not states(folder)
    assert worker.starts[0] == 0
    assert 3 < worker.starts[-1] < 20
    assert worker.starts == sorted(worker.starts)


def test_a_state_is_not_that_of_other_checkpoints_or_another_training(
    worker: Worker,
    trial: Trial,
    artifacts: Mapping[str, Made],
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
) -> None:
    """A state holds the losses since its last checkpoint, which a grown study may have changed."""
    folder = RunFolder(tmp_path)
    worker.left = 4
    with pytest.raises(Lost):
        list(attempt(replace(trial, epochs=(20,)), artifacts, folder, None))
    assert len(states(folder)) == 1
    worker.left, worker.starts = 1000, []
    list(attempt(trial, artifacts, folder, None))
    assert worker.starts == [0, 3]  # the state was beyond the first checkpoint
    assert record(folder, trial) == undisturbed
    assert not states(folder)


def test_states_are_stored_from_time_to_time(
    trial: Trial, artifacts: Mapping[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []
    write = RunFolder.write_artifact

    def noted(self: RunFolder, key: str, content: bytes) -> None:
        stored.append(key)
        write(self, key, content)

    monkeypatch.setattr(RunFolder, "write_artifact", noted)
    list(attempt(trial, artifacts, RunFolder(tmp_path), None))
    assert not stored  # it takes less than SAVE_SECONDS

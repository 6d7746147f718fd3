"""Optuna's journal in the run folder, as dashboards read it."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from dgray.search.journal import open_journal


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def session(path: Path, *values: float) -> optuna.Study:
    """Write what a driver writes in one session."""
    study = optuna.create_study(storage=open_journal(path), study_name="kl")
    for value in values:
        tell(study, value)
    return study


def tell(study: optuna.Study, value: float) -> None:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_constraint("num_parameters", value - 2)
    trial.set_constraint("kl_change", -1.0)
    trial.set_user_attr("trial", f"kl-{value}")
    study.tell(trial, value)


def reader(path: Path) -> JournalStorage:
    """Open the journal as optuna-dashboard does."""
    return JournalStorage(JournalFileBackend(str(path)))


def values(storage: JournalStorage) -> list[float | None]:
    (study,) = storage.get_all_studies()
    return [trial.value for trial in storage.get_all_trials(study._study_id)]


def test_a_reader_sees_each_trial_immediately(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    study = session(path)
    dashboard = reader(path)
    for count in (1, 2, 3):
        tell(study, float(count))
        assert values(dashboard) == [1.0, 2.0, 3.0][:count]
    assert [entry.name for entry in tmp_path.iterdir()] == ["optuna.journal"]  # no lock


def test_an_open_reader_continues_with_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    first = session(path, 1.0, 2.0)
    first.ask()  # running when the driver is killed
    dashboard = reader(path)
    assert values(dashboard) == [1.0, 2.0, None]
    second = session(path, 1.0, 2.0)
    assert values(dashboard) == [1.0, 2.0]
    tell(second, 3.0)
    assert values(dashboard) == [1.0, 2.0, 3.0]
    assert values(reader(path)) == [1.0, 2.0, 3.0]


def test_a_partial_line_of_a_killed_driver_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    session(path, 1.0)
    dashboard = reader(path)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"study_')
    assert values(dashboard) == [1.0]
    session(path, 1.0, 2.0)
    assert values(dashboard) == [1.0, 2.0]


@pytest.mark.parametrize("content", [b"\0" * 64 + b"\n", b'{"op_code": 99}\n', b"[]\n"])
def test_a_damaged_journal_is_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    session(path, 1.0)
    path.write_bytes(path.read_bytes() + content)
    session(path, 2.0)
    assert values(reader(path)) == [2.0]


def test_a_stale_lock_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("runs/optuna.journal")
    path.parent.mkdir()
    # Left by a dashboard that was killed while writing; with a relative path it never expires, and
    # Optuna's own writers would wait for it forever.
    JournalFileSymlinkLock(str(path)).acquire()
    session(path, 1.0)
    session(path, 1.0, 2.0)
    assert values(reader(path)) == [1.0, 2.0]


def test_changes_in_a_dashboard_do_not_reach_the_search(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    study = session(path, 1.0)
    dashboard = reader(path)
    (shown,) = dashboard.get_all_studies()
    dashboard.set_study_system_attr(shown._study_id, "dashboard:note_str:0", "a note")
    dashboard.delete_study(shown._study_id)
    tell(study, 2.0)
    assert [trial.value for trial in study.get_trials()] == [1.0, 2.0]
    assert dashboard.get_all_studies() == []  # until the next session
    session(path, 1.0, 2.0)
    assert values(dashboard) == [1.0, 2.0]


def test_constraints_are_a_list_in_the_file_and_named_in_the_search(
    tmp_path: Path,
) -> None:
    path = tmp_path / "optuna.journal"
    study = session(path, 1.0, 3.0)
    assert study.trials[0].constraints == {"num_parameters": -1.0, "kl_change": -1.0}
    storage = reader(path)
    (shown,) = storage.get_all_studies()
    constraints = [t.system_attrs["constraints"] for t in storage.get_all_trials(shown._study_id)]
    assert constraints == [[-1.0, -1.0], [1.0, -1.0]]
    loaded = optuna.load_study(study_name="kl", storage=storage)
    assert loaded.best_trial.number == 0
    assert [t.state for t in loaded.trials] == [TrialState.COMPLETE] * 2
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())

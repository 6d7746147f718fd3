"""Search of one cell: points, outcomes, early stopping and resuming."""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from dgray.config.reading.load import Study
from dgray.config.search import ARGUMENTS
from dgray.plan.cells import cells_of
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.cell_search import CellSearch
from dgray.search.early_stopping import RoundPruner
from dgray.search.records import Asked, Told, read_events
from dgray.search.samplers import _SAMPLERS
from tests.search.analytic import finish, load, result

SAMPLERS = tuple(ARGUMENTS)


def start(
    study: Study, folder: Path, clock: Callable[[], float] | None = None
) -> tuple[CellSearch, RunFolder]:
    run = RunFolder(folder)
    (cell,) = cells_of(study)
    storage = optuna.storages.InMemoryStorage()
    kwargs = {} if clock is None else {"clock": clock}
    return CellSearch(study, cell, run, storage, **kwargs), run


def complete(search: CellSearch, run: RunFolder, trial: Trial) -> None:
    for epoch in run.missing_epochs(trial):
        run.write_result(result(trial, epoch))
        search.report_checkpoint(trial.id, epoch)
    search.report_end(trial.id, None)


def run_all(search: CellSearch, run: RunFolder) -> list[Trial]:
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
        complete(search, run, trial)
    assert search.is_over()
    return trials


def told(study: Study, folder: Path) -> list[Told]:
    (cell,) = cells_of(study)
    events = read_events(RunFolder(folder), cell.id)
    return [event for event in events if isinstance(event, Told)]


def points(study: Study, folder: Path) -> list[dict[str, object]]:
    (cell,) = cells_of(study)
    events = read_events(RunFolder(folder), cell.id)
    asked = sorted((e for e in events if isinstance(e, Asked)), key=lambda e: e.number)
    return [dict(e.values) for e in asked]


def test_the_outcome_is_that_of_the_best_weight_and_checkpoint(tmp_path: Path) -> None:
    study = load(tmp_path)
    search, run = start(study, tmp_path / "run")
    trials = run_all(search, run)
    assert len(trials) == 8
    for trial, outcome in zip(trials, told(study, tmp_path / "run"), strict=True):
        rate = math.log10(trial.config.fit.learning_rate) + 3
        width = math.log(trial.config.discriminator.width / 20)
        best = rate**2 + 0.1 * width**2 + 1 / 20 + 0.005  # weight 1, last epoch, two replicates
        assert outcome.values == [pytest.approx(best)]
        assert outcome.setting is not None
        assert (outcome.setting["epoch"], outcome.setting["guidance_weight"]) == (20, 1.0)


def test_the_guidance_weight_can_be_searched(tmp_path: Path) -> None:
    study = load(tmp_path, "evaluate.guidance_weight={choice: [0.5, 1]}")
    search, run = start(study, tmp_path / "run")
    trials = run_all(search, run)
    assert {len(trial.settings) for trial in trials} == {1}
    assert {trial.settings[0].guidance_weight for trial in trials} == {0.5, 1.0}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_in_rounds_do_not_depend_on_order_or_restarts(sampler: str, tmp_path: Path) -> None:
    overrides = ["search.rounds=3", "search.num_trials=9", f"search.sampler={sampler}"]
    if sampler == "brute_force":  # it needs a finite space
        overrides += ["fit.learning_rate={choice: [1e-4, 1e-3, 1e-2]}"]
        overrides += ["discriminator.width={int: [8, 10]}"]
    study = load(tmp_path, *overrides)
    sequences = []
    for seed in range(2):
        rng, folder = random.Random(seed), tmp_path / str(seed)
        search, run = start(study, folder)
        running: list[Trial] = []
        for _ in range(200):
            while (trial := search.ask()) is not None:
                running.append(trial)
            if not running:
                break
            if seed and rng.random() < 0.3:  # killed and restarted
                search, run = start(study, folder)
                running = []
                continue
            complete(search, run, running.pop(rng.randrange(len(running))))
        assert search.is_over()
        sequences.append(points(study, folder))
        values = [(t.number, t.values) for t in told(study, folder)]
        assert [number for number, _ in values] == list(range(9))
    assert sequences[0] == sequences[1]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "qmc"])
def test_a_resumed_search_continues_its_running_points(sampler: str, tmp_path: Path) -> None:
    study = load(tmp_path, f"search.sampler={sampler}", "search.num_trials=10")
    first, run = start(study, tmp_path / "run")
    for _ in range(4):
        trial = first.ask()
        assert trial is not None
        complete(first, run, trial)
    lost = [first.ask(), first.ask()]  # in flight when the driver dies
    second, run = start(study, tmp_path / "run")
    again = [second.ask(), second.ask()]
    assert again == lost
    for trial in again:
        assert trial is not None
        complete(second, run, trial)
    rest = run_all(second, run)
    assert len(rest) == 4
    states = [t.state for t in second._optuna.optuna_study.get_trials()]
    assert states == [TrialState.COMPLETE] * 10
    assert len({str(point) for point in points(study, tmp_path / "run")}) == 10


def test_a_repeated_point_gets_the_outcome_of_the_first(tmp_path: Path) -> None:
    few = "discriminator.width={choice: [8, 16]}", "discriminator.depth=2"
    study = load(tmp_path, *few, "fit.learning_rate=1e-3", "search.num_trials=6")
    search, run = start(study, tmp_path / "run")
    trials = run_all(search, run)
    assert len(trials) == 2
    outcomes = told(study, tmp_path / "run")
    assert len(outcomes) == 6
    assert sum(outcome.of is not None for outcome in outcomes) == 4
    by_width = {str(p): o.values for p, o in zip(points(study, run.path), outcomes, strict=True)}
    assert len(by_width) == 2


def test_a_point_that_repeats_a_finished_one_of_its_round_does_not_stall_it(
    tmp_path: Path,
) -> None:
    one = "discriminator.width={choice: [8]}", "discriminator.depth=2", "fit.learning_rate=1e-3"
    study = load(tmp_path, *one, "search.num_trials=4", "search.rounds=2")
    search, run = start(study, tmp_path / "run")
    assert len(run_all(search, run)) == 1  # the first one has ended when the second is suggested
    assert [outcome.of for outcome in told(study, run.path)] == [None, 0, 0, 0]


def test_querying_whether_a_search_is_over_writes_nothing(tmp_path: Path) -> None:
    one = "discriminator.width={choice: [8]}", "discriminator.depth=2", "fit.learning_rate=1e-3"
    study = load(tmp_path, *one, "search.num_trials=2", "search.rounds=2")
    search, run = start(study, tmp_path / "run")
    assert len(run_all(search, run)) == 1
    (last,) = run.path.glob("search/*/000001-told.json")
    last.unlink()  # killed before the outcome of the repeated point was written
    search, run = start(study, tmp_path / "run")
    assert search.is_over()
    assert not last.exists()
    search.finish_if_over()
    assert [outcome.of for outcome in told(study, run.path)] == [None, 0]


def test_a_repeat_of_a_running_point_waits_for_it(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "discriminator.width={choice: [8]}",
        "discriminator.depth=2",
        "fit.learning_rate=1e-3",
        "search.num_trials=3",
    )
    search, run = start(study, tmp_path / "run")
    trial = search.ask()
    assert trial is not None
    assert search.ask() is None  # all others are the same trial
    assert not told(study, tmp_path / "run")
    complete(search, run, trial)
    assert [t.of for t in told(study, tmp_path / "run")] == [None, 0, 0]


def test_nan_and_failed_trials_are_failed_points(tmp_path: Path) -> None:
    study = load(tmp_path, "search.num_trials=3")
    search, run = start(study, tmp_path / "run")
    for failure in (None, "its worker was lost", None):
        trial = search.ask()
        assert trial is not None
        if failure is None:
            finish(run, trial, validation_change=math.nan)
        search.report_end(trial.id, failure)
    outcomes = told(study, tmp_path / "run")
    assert [o.state for o in outcomes] == ["FAIL"] * 3
    assert outcomes[1].reason == "its worker was lost"
    assert outcomes[0].reason == "no setting has a finite value of each metric of the search"
    assert search.is_over()


def test_constraints_are_passed_to_optuna(tmp_path: Path) -> None:
    study = load(tmp_path, "search.constraints={num_parameters: 50}", "search.num_trials=2")
    search, run = start(study, tmp_path / "run")
    run_all(search, run)
    assert [o.excess for o in told(study, tmp_path / "run")] == [{"num_parameters": 50.0}] * 2
    assert search._optuna.optuna_study.get_trials()[0].constraints == {"num_parameters": 50.0}


def test_several_metrics_are_of_one_setting(tmp_path: Path) -> None:
    metrics = "search.metrics={path_kl_change: minimize, kl: maximize, fit_seconds: minimize}"
    measured = "evaluate.metrics=[path_kl, kl]"
    study = load(tmp_path, metrics, measured, "search.num_trials=3", "search.sampler=nsga2")
    search, run = start(study, tmp_path / "run")
    run_all(search, run)
    for outcome in told(study, tmp_path / "run"):
        assert outcome.values is not None
        change, kl, seconds = outcome.values
        assert kl == pytest.approx(-(change - 0.005))
        assert seconds == 4.0  # of both checkpoints
    assert len(search._optuna.optuna_study.best_trials) >= 1


@pytest.mark.parametrize("rounds", ["null", "4"])
@pytest.mark.parametrize("method", ["median", "asha", "hyperband"])
def test_a_bad_trial_is_stopped_early_and_keeps_its_rows(
    method: str, rounds: str, tmp_path: Path
) -> None:
    stopping = f"search.early_stopping={{method: {method}, num_startup_trials: 2}}"
    study = load(tmp_path, stopping, f"search.rounds={rounds}", "search.num_trials=16")
    states = []
    for _ in range(2):  # the second time from the events
        search, run = start(study, tmp_path / "run")
        while (trial := search.ask()) is not None:
            for epoch in trial.epochs:
                run.write_result(result(trial, epoch))
                if search.report_checkpoint(trial.id, epoch):
                    break
            search.report_end(trial.id, None)
        states.append([t.state for t in search._optuna.optuna_study.get_trials()])
    assert states[0] == states[1]
    pruned = [o for o in told(study, tmp_path / "run") if o.state == "PRUNED"]
    assert pruned
    assert all(o.reason == "stopped early at epoch 10" for o in pruned)
    assert states[0].count(TrialState.PRUNED) == len(pruned)
    assert run.missing_rows(search.trials) == 0
    stopped = {t.id for t in search.trials if t.epochs == (10,)}
    assert len(stopped) == len(pruned)
    assert all(run.completed_epochs(name) == {10} for name in stopped)


@pytest.mark.parametrize("chance_of_death", [0.0, 0.3])
def test_early_stopping_in_rounds_does_not_depend_on_order_or_restarts(
    chance_of_death: float, tmp_path: Path
) -> None:
    stopping = "search.early_stopping={method: median, num_startup_trials: 2}"
    study = load(tmp_path, stopping, "search.rounds=4", "search.num_trials=12")
    results, deaths = [], 0
    for seed in range(3):
        rng = random.Random(seed)
        search, run = start(study, tmp_path / str(seed))
        running: dict[str, Trial] = {}
        while True:
            running |= {trial.id: trial for trial in iter(search.ask, None)}
            if not running:
                break
            trial = running[rng.choice(sorted(running))]
            epoch = run.missing_epochs(trial)[0]
            run.write_result(result(trial, epoch))
            if seed and rng.random() < chance_of_death:  # killed before the rows are reported
                search, run = start(study, tmp_path / str(seed))
                running, deaths = {}, deaths + 1
            elif search.report_checkpoint(trial.id, epoch) or not run.missing_epochs(trial):
                search.report_end(trial.id, None)
                del running[trial.id]
        assert search.is_over()
        outcomes = told(study, tmp_path / str(seed))
        rows = run.rows()[["trial", "epoch", "replicate", "guidance_weight", "path_kl_change"]]
        results.append(
            (
                [(o.number, o.state, o.values, o.reason) for o in outcomes],
                rows.sort_values(list(rows)).to_dict("list"),
            )
        )
    assert results[0] == results[1] == results[2]
    assert any(state == "PRUNED" for _, state, _, _ in results[0][0])
    assert (deaths > 2) == (chance_of_death > 0)


def test_early_stopping_ignores_points_of_the_same_round(tmp_path: Path) -> None:
    # A driver that dies while it tells the outcomes of a round leaves some of them recorded.
    (cell,) = cells_of(load(tmp_path, "search.rounds=2"))
    verdicts = []
    for values in ({0: 1.0, 1: 3.0}, {0: 1.0, 1: 3.0, 2: 10.0}):
        pruner = RoundPruner(cell.search, optuna.pruners.MedianPruner(n_startup_trials=1))
        for number, value in values.items():
            pruner.add(
                Told(
                    event=number,
                    number=number,
                    state="COMPLETE",
                    values=[value],
                    intermediate={"10": value, "20": value},
                )
            )
        verdicts.append([pruner.should_stop(3, {10: value}) for value in (1.5, 2.5)])
        assert pruner.should_stop(4, {10: 2.5}) == (len(values) == 2)  # the next round
    assert verdicts == [[False, True]] * 2


def test_cached_trials_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgray.search.cell_search.MAX_REPEATS", 3)
    study = load(tmp_path, "search.num_trials=10", "search.sampler=random")
    (cell,) = cells_of(study)
    run, recalled = RunFolder(tmp_path / "run"), []

    def recall(trial: Trial) -> None:
        recalled.append(trial.id)
        if len(recalled) != 7:
            finish(run, trial)
        else:
            run.write_result(result(trial, trial.epochs[0]))

    storage = optuna.storages.InMemoryStorage()
    search = CellSearch(study, cell, run, storage, recall)
    trial = search.ask()
    assert trial is not None
    assert (len(recalled), recalled[-1]) == (7, trial.id)  # more than MAX_REPEATS
    assert run.missing_epochs(trial) == [trial.epochs[-1]]
    complete(search, run, trial)
    assert search.ask() is None
    assert search.is_over()
    assert [o.state for o in told(study, run.path)] == ["COMPLETE"] * 10


def test_the_time_budget_includes_earlier_sessions(tmp_path: Path) -> None:
    study = load(tmp_path, "search.num_trials=null", "search.time_budget=10")
    ticks = itertools.count(0, 1)
    search, run = start(study, tmp_path / "run", lambda: float(next(ticks)))
    first = run_all(search, run)
    assert 1 <= len(first) <= 5
    later = itertools.count(1000, 10)  # one point exceeds the rest of the budget
    search, run = start(study, tmp_path / "run", lambda: float(next(later)))
    assert len(run_all(search, run)) <= 1


def test_conditional_fields_are_suggested_only_where_they_apply(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "fit.objective={choice: [kl, mixed]}",
        "fit.gamma={uniform: [0, 2]}",
        "fit.dropout={uniform: [0, 0.5], when: {discriminator.depth: [2, 3]}}",
        "search.num_trials=20",
    )
    search, run = start(study, tmp_path / "run")
    run_all(search, run)
    for point in points(study, tmp_path / "run"):
        assert ("fit.gamma" in point) == (point["fit.objective"] == "mixed")
        assert ("fit.dropout" in point) == (point["discriminator.depth"] in (2, 3))
    assert {t.config.fit.dropout == 0 for t in search.trials} == {True, False}


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_arguments_exist_in_optuna(name: str) -> None:
    parameters = inspect.signature(_SAMPLERS[name].__init__).parameters
    assert set(ARGUMENTS[name]) <= set(parameters)
    assert "seed" in parameters

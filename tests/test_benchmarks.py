"""The table of benchmarks: every module can be imported and run."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.cluster_simulation import Costs, simulate
from benchmarks.turns import Cost, Pair, cost_of, measure_in_turns


@pytest.mark.parametrize("benchmark", runner.TABLE, ids=lambda benchmark: benchmark.name)
def test_every_row_of_the_table_names_a_module_with_main(benchmark: runner.Benchmark) -> None:
    module = importlib.import_module(benchmark.module)
    assert callable(module.main)
    assert benchmark.minutes > 0


def test_names_are_distinct_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [b.name for b in runner.TABLE]
    assert len({b.name for b in runner.TABLE}) == len(runner.TABLE)


def test_the_readme_describes_every_benchmark_and_no_other() -> None:
    text = (Path(__file__).parents[1] / "benchmarks/README.md").read_text("utf-8")
    named = re.findall(r"python -m benchmarks ((?:\w+ ?)+)", text)
    assert set(" ".join(named).split()) == {b.name for b in runner.TABLE}


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["frechett"])
    assert "frechet" in capsys.readouterr().err


def test_a_benchmark_that_fails_is_counted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = runner.Benchmark("missing", "benchmarks.missing", "no such module", 1)
    monkeypatch.setattr(runner, "TABLE", (missing,))
    assert runner.main([]) == 1
    assert "failed: missing" in capfd.readouterr().err


def test_functions_are_measured_in_turns_and_compared_in_pairs() -> None:
    calls: list[str] = []

    def function(name: str, seconds: float) -> Callable[[], Cost]:
        def call() -> Cost:
            calls.append(name)
            return Cost(cpu=seconds, wall=10 * seconds)

        return call

    pair = measure_in_turns((function("a", 1.0), function("b", 3.0)), repeats=2)
    assert calls == ["a", "b", "b", "a"]
    assert pair.medians() == (1.0, 3.0)
    assert pair.ratios(1) == "3.0 (3.0 to 3.0)"
    assert Pair([Cost(1, 1), Cost(1, 1)], [Cost(2, 5), Cost(4, 5)]).ratios(0, "wall") == (
        "5 (5 to 5)"
    )


def test_the_cost_of_a_function_is_its_cpu_time_and_wall_clock() -> None:
    cost = cost_of(lambda: sum(range(100_000)))
    assert 0 < cost.cpu < 10
    assert 0 < cost.wall < 100


def test_a_simulated_study_without_overhead_computes_all_the_time() -> None:
    free = Costs(driver_trial=0, driver_checkpoint=0, writer_checkpoint=0, worker_start=0)
    outcome = simulate(free, workers=4, trials=8, checkpoints=3, checkpoint_seconds=2.0)
    assert outcome.seconds == pytest.approx(2 * 3 * 2.0)
    assert outcome.efficiency == pytest.approx(1)
    assert outcome.limit == "trials"


@pytest.mark.parametrize(
    ("costs", "limit", "seconds"),
    [
        (Costs(0.5, 0.0, 0.0, 0.0), "driver", 1000 * 0.5),
        (Costs(0.25, 0.5, 0.0, 0.0), "driver", 1000 * (0.25 + 0.5)),
        (Costs(0.0, 0.0, 0.5, 0.0), "writer", 1000 * 2 * 0.5),
    ],
)
def test_a_simulated_study_on_many_workers_is_as_slow_as_its_bottleneck(
    costs: Costs, limit: str, seconds: float
) -> None:
    outcome = simulate(costs, workers=500, trials=1000, checkpoints=2, checkpoint_seconds=1.0)
    assert outcome.seconds == pytest.approx(seconds, rel=0.02)
    assert outcome.limit == limit

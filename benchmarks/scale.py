"""Measure how the cost of a study grows, and simulate studies on up to 1,000 GPUs.

    python -m benchmarks scale
    python -m benchmarks.scale --trials 10 100 1000 10000 --figure docs/figures/scale.png

Every study runs in a process of its own. Its CPU seconds are those of its components; wall clock
depends on the other jobs of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.cluster_simulation import Costs, simulate
from benchmarks.turns import machine

TRIALS = {"local": (10, 100, 300), "ray": (10, 100)}
GPUS = (1, 8, 64, 256, 1000)
TRIAL_SECONDS = (10, 60, 600)
CHECKPOINTS = 4
TRIALS_PER_GPU = 10
WORKER_START = 4.0  # seconds, of Ray's actor and the import of torch on an idle core

Cost = Mapping[str, float]

# A control is evaluated and not trained, so that the driver's share is visible.
TINY = """\
name: tiny
diffusion: {{sigma_min: 0.02, sigma_max: 20}}
data: {{kind: mixture, name: ring8, num_real: 16, num_validation: 16, num_held_out: 16}}
base: {{kind: wrong_mixture, std_scale: 1.4, num_generated: 16}}
fit: {{objective: oscillating, oscillation: {{frequency: {frequencies}}}}}
evaluate: {{guidance_weight: [1], sampler: ode, num_steps: 4, metrics: [path_kl],
           num_points: 8, num_samples: 8}}
"""

# One trained trial.
TRAINED = """\
name: trained
replicates: {replicates}
diffusion: {{sigma_min: 0.02, sigma_max: 20}}
data: {{kind: mixture, num_real: 200, num_validation: 200, num_held_out: 200,
       components: {{means: {means}, stds: [0.3, 0.3]}}}}
base: {{kind: wrong_mixture, std_scale: 1.4, num_generated: 400}}
discriminator: {{width: 16, depth: 2}}
fit: {{objective: kl, epochs: 20}}
evaluate: {{guidance_weight: {weights}, sampler: sde, num_steps: 16, metrics: [path_kl, kl_sde],
           num_points: 100, num_samples: {samples}}}
"""
PLAIN: Mapping[str, Any] = {"replicates": 2, "weights": 1, "samples": 400, "dimensions": 2}
VALUES: Mapping[str, Sequence[int]] = {
    "weights": (1, 4, 16),
    "replicates": (2, 8, 32),
    "samples": (400, 1600, 6400),
    "dimensions": (1, 2, 4),
}

# Eight trained trials, with a Ray of one worker or of two.
EIGHT = """\
name: eight
replicates: 8
diffusion: {{sigma_min: 0.02, sigma_max: 20}}
data: {{kind: mixture, name: ring8, num_real: 1000, num_validation: 200, num_held_out: 200}}
base: {{kind: wrong_mixture, std_scale: 1.4, num_generated: 1000}}
discriminator: {{width: [16, 17, 18, 19], depth: 2}}
fit: {{objective: [cross_entropy, kl], epochs: 1500}}
evaluate: {{guidance_weight: [1], sampler: sde, num_steps: 16, metrics: [path_kl, kl_sde],
           num_points: 100, num_samples: 1000}}
resources: {{max_concurrent_trials: {workers}}}
"""
WORKERS = (1, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of costs and of the simulation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", help="numbers of trials, both engines")
    parser.add_argument("--figure", type=Path, help="file of the figure")
    options = parser.parse_args(arguments)
    print(machine(), flush=True)
    counts = {engine: options.trials or numbers for engine, numbers in TRIALS.items()}
    by_trials = {engine: trial_costs(engine, numbers) for engine, numbers in counts.items()}
    for engine, costs in by_trials.items():
        print_trials(engine, costs)
    growth = {name: growth_costs(name, values) for name, values in VALUES.items()}
    print_growth(growth)
    print_workers({w: study_cost(EIGHT.format(workers=w), "ray", "no-report") for w in WORKERS})
    items = item_costs(by_trials)
    print_simulation(items)
    if options.figure:
        from benchmarks.scale_figure import draw

        draw(by_trials, growth, items, options.figure)


def trial_costs(engine: str, numbers: Sequence[int]) -> dict[int, Cost]:
    """Return the costs of studies with these numbers of tiny trials."""
    costs = {}
    for number in numbers:
        frequencies = [round(1 + index / 10_000, 4) for index in range(number - 1)]  # and the base
        costs[number] = study_cost(TINY.format(frequencies=frequencies), engine)
        assert costs[number]["rows"] == number
    return costs


def growth_costs(name: str, values: Sequence[int]) -> dict[int, Cost]:
    """Return the costs of a trained trial for these values of one of its sizes."""
    costs = {}
    for value in values:
        sizes = {**PLAIN, name: value}
        dimension = sizes["dimensions"]
        means = [[sign] + [0.0] * (dimension - 1) for sign in (-1.0, 1.0)]
        weights = [round(0.1 * (index + 1), 1) for index in range(sizes["weights"])]
        text = TRAINED.format(
            means=means,
            weights=weights,
            replicates=sizes["replicates"],
            samples=sizes["samples"],
        )
        costs[value] = study_cost(text, "local", "no-report")
    return costs


@cache
def study_cost(text: str, engine: str, *options: str) -> Cost:
    """Run a study in a process of its own and return its costs (`benchmarks/study_cost.py`)."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "study.yaml")
        study.write_text(text, "utf-8")
        command = [sys.executable, "-m", "benchmarks.study_cost", str(study), engine]
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
        done = subprocess.run(
            [*command, str(Path(folder, "run")), *options],
            check=True,
            env=environment,
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def slope(costs: Mapping[int, Cost], name: str) -> float:
    """Return the growth of a cost per trial between the fewest and the most trials."""
    few, many = min(costs), max(costs)
    return (costs[many][name] - costs[few][name]) / (many - few)


def print_trials(engine: str, costs: Mapping[int, Cost]) -> None:
    """Print the costs against the number of trials."""
    print(f"\n### Trials, engine {engine}: CPU seconds\n")
    print("| trials | driver | report | trials | children | wall, s | MiB | files | MB on disk |")
    print("|---:|" + "---:|" * 8)
    for number, cost in costs.items():
        print(
            f"| {number:,} | {cost['driver']:.1f} | {cost['report']:.1f} | {cost['trials']:.1f} | "
            f"{cost['children']:.1f} | {cost['wall']:.0f} | {cost['memory_mib']:.0f} | "
            f"{cost['files']:,.0f} | {cost['disk_mib']:.1f} |"
        )
    names = ("driver", "report", "trials", "children", "wall")
    print("\nper trial: " + ", ".join(f"{n} {1e3 * slope(costs, n):.1f} ms" for n in names))
    print(f"memory per trial: {1024 * slope(costs, 'memory_mib'):.0f} KiB", flush=True)


def print_growth(growth: Mapping[str, Mapping[int, Cost]]) -> None:
    """Print the CPU seconds and memory of one trained trial against its sizes."""
    print("\n### One trained trial: CPU seconds of the trial (peak memory, MiB)\n")
    print("| size | values | CPU s (MiB) |\n|---|---|---|")
    for name, costs in growth.items():
        values = ", ".join(map(str, costs))
        text = ", ".join(f"{c['trials']:.1f} ({c['memory_mib']:.0f})" for c in costs.values())
        print(f"| {name} | {values} | {text} |")
    sys.stdout.flush()


def print_workers(costs: Mapping[int, Cost]) -> None:
    """Print the wall clock of eight trials against the number of workers."""
    print("\n### Eight trained trials under Ray: wall clock, start and end of Ray included\n")
    print("| workers | wall, s | against one |\n|---:|---:|---:|")
    for workers, cost in costs.items():
        print(f"| {workers} | {cost['wall']:.0f} | {costs[1]['wall'] / cost['wall']:.2f} |")
    sys.stdout.flush()


def item_costs(by_trials: Mapping[str, Mapping[int, Cost]]) -> Costs:
    """Return the costs of single items for the simulation.

    The writer runs in the driver's process under the local engine; half of the driver's cost is
    an upper bound of its share. Under Ray a further checkpoint costs the driver what an event
    costs, at most half of a trial.
    """
    trial = slope(by_trials["ray"], "driver")
    writer = slope(by_trials["local"], "driver") / 2
    return Costs(trial, trial / 2, writer, WORKER_START)


def print_simulation(costs: Costs) -> None:
    """Print the simulated efficiency against GPUs and seconds of a trial."""
    print(
        f"\n### Simulation, not measured: {TRIALS_PER_GPU} trials a GPU, {CHECKPOINTS} "
        f"checkpoints each\n\ndriver {1e3 * costs.driver_trial:.1f} ms a trial and "
        f"{1e3 * costs.driver_checkpoint:.1f} a checkpoint, writer "
        f"{1e3 * costs.writer_checkpoint:.1f} a checkpoint\n"
    )
    print("| GPUs | " + " | ".join(f"{s} s a trial" for s in TRIAL_SECONDS) + " |")
    print("|---:|" + "---|" * len(TRIAL_SECONDS))
    for gpus in GPUS:
        cells = []
        for seconds in TRIAL_SECONDS:
            outcome = simulate(
                costs,
                workers=gpus,
                trials=TRIALS_PER_GPU * gpus,
                checkpoints=CHECKPOINTS,
                checkpoint_seconds=seconds / CHECKPOINTS,
            )
            cells.append(f"{outcome.efficiency:.0%}, {outcome.limit}")
        print(f"| {gpus:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""Figure of the costs that `benchmarks/scale.py` measures and simulates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.cluster_simulation import Costs, simulate
from benchmarks.scale import CHECKPOINTS, GPUS, TRIAL_SECONDS, TRIALS_PER_GPU, Cost


def draw(
    by_trials: Mapping[str, Mapping[int, Cost]],
    growth: Mapping[str, Mapping[int, Cost]],
    items: Costs,
    path: Path,
) -> None:
    """Draw measured costs against trials and sizes, and the simulated efficiency."""
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    _draw_seconds(axes[0], by_trials)
    _draw_memory(axes[1], by_trials)
    _draw_growth(axes[2], growth)
    _draw_simulation(axes[3], items)
    figure.savefig(path, dpi=110)


def _draw_seconds(axes: Axes, by_trials: Mapping[str, Mapping[int, Cost]]) -> None:
    for engine, costs in by_trials.items():
        for component, line in (("driver", "-"), ("report", ":")):
            seconds = [cost[component] for cost in costs.values()]
            axes.loglog(list(costs), seconds, f"o{line}", label=f"{engine}: {component}")
    axes.set(title="Driver, measured", xlabel="trials", ylabel="CPU seconds")
    axes.legend()


def _draw_memory(axes: Axes, by_trials: Mapping[str, Mapping[int, Cost]]) -> None:
    for engine, costs in by_trials.items():
        memory = [cost["memory_mib"] for cost in costs.values()]
        axes.semilogx(list(costs), memory, "o-", label=engine)
    axes.set(title="Driver, measured", xlabel="trials", ylabel="peak memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_growth(axes: Axes, growth: Mapping[str, Mapping[int, Cost]]) -> None:
    for name, costs in growth.items():
        first = min(costs)
        seconds = [cost["trials"] for cost in costs.values()]
        axes.loglog([value / first for value in costs], seconds, "o-", label=f"{name} / {first}")
    axes.set(title="One trial, measured", xlabel="factor", ylabel="CPU seconds")
    axes.legend()


def _draw_simulation(axes: Axes, items: Costs) -> None:
    for seconds in TRIAL_SECONDS:
        shares = [
            simulate(
                items,
                workers=gpus,
                trials=TRIALS_PER_GPU * gpus,
                checkpoints=CHECKPOINTS,
                checkpoint_seconds=seconds / CHECKPOINTS,
            ).efficiency
            for gpus in GPUS
        ]
        axes.semilogx(GPUS, shares, "o--", label=f"{seconds} s a trial")
    axes.set(title="Simulation, not measured", xlabel="GPUs", ylabel="share of time computing")
    axes.set_ylim(0, 1.02)
    axes.legend()

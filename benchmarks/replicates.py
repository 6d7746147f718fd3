"""Measure the speed-up from training the replicates of a trial together instead of one by one.

    python -m benchmarks replicates

Both variants take the same optimiser steps on the same samples, on one CPU thread, and are run in
turn. The table shows the median, smallest and largest ratio of CPU seconds of a pair of runs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from benchmarks.turns import Cost, Pair, cost_of, machine, measure_in_turns
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_uniform
from dgray.discriminator.fit import Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import MlpShape, initialise
from dgray.discriminator.objective import CrossEntropy, Kl, ObjectiveLoss
from dgray.problem.compute_process import prepare_process

REPLICATES = 8
REPEATS = 7  # pairs of runs per case
NUM_REAL = 256  # one optimiser step an epoch
DEPTH = 3
STEPS = {16: 20, 64: 10, 256: 2}  # per width, so that a run takes 0.2 to 2 seconds
OBJECTIVES = {"cross_entropy": CrossEntropy(), "kl": Kl()}

DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means, 1.4 * DATA.stds, DATA.weights)


class Case(NamedTuple):
    """Objective, width and number of optimiser steps to measure."""

    objective: str
    width: int
    steps: int


def task(case: Case, replicates: range) -> Task:
    """Return the training task of these replicates."""
    real = [DATA.sample(NUM_REAL, named_generator(0, "real", r)) for r in replicates]
    generated = [BASE.sample(NUM_REAL, named_generator(0, "generated", r)) for r in replicates]
    needs_generated = case.objective == "cross_entropy"
    return Task(
        real=torch.stack(real).float(),
        generated=torch.stack(generated).float() if needs_generated else None,
        base=BASE.to("cpu", torch.float32),
        loss=ObjectiveLoss(OBJECTIVES[case.objective]),
        draw_sigma=lambda generator, count: log_uniform(
            torch.rand(count, generator=generator), 0.01, 20.0
        ),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )


def training_cost(case: Case, groups: list[range]) -> Cost:
    """Return the cost of training the groups of replicates one after another."""
    schedule = TrainingSchedule(
        epochs=case.steps, checkpoints=(case.steps,), batch_size=NUM_REAL, learning_rate=1e-3
    )
    shape = MlpShape(dimension=DATA.dimension, width=case.width, depth=DEPTH)
    work = []
    for replicates in groups:
        generators = [named_generator(0, "initial", r) for r in replicates]
        mlp = initialise(shape, DATA.std, generators)
        state = TrainingState.start(mlp, replicates=replicates)
        work.append((task(case, replicates), state))

    def train() -> None:
        for training, state in work:
            for _ in fit(training, schedule, state):
                pass

    return cost_of(train)


def together(case: Case) -> Cost:
    """Train all replicates as one ensemble; return the cost."""
    return training_cost(case, [range(REPLICATES)])


def apart(case: Case) -> Cost:
    """Train every replicate separately; return the cost."""
    return training_cost(case, [range(r, r + 1) for r in range(REPLICATES)])


def measure(case: Case) -> Pair:
    """Return costs together and apart, after one step of each to warm up."""
    warm = case._replace(steps=1)
    together(warm)
    apart(warm)
    return measure_in_turns((lambda: together(case), lambda: apart(case)), REPEATS)


def main() -> None:
    """Measure every case and print its line of the table."""
    prepare_process(1)
    versions = f"torch {torch.__version__}"
    print(
        f"{machine()}, {versions}; {REPLICATES} replicates, {REPEATS} pairs of runs, one thread\n"
    )
    print("| objective | width | ms a step, together | ms a step, apart | apart / together |")
    print("|---|---:|---:|---:|---:|")
    for objective in OBJECTIVES:
        for width, steps in STEPS.items():
            pair = measure(Case(objective, width, steps))
            ms = " | ".join(f"{1000 * median / steps:.1f}" for median in pair.medians())
            print(f"| {objective} | {width} | {ms} | {pair.ratios(2)} |")


if __name__ == "__main__":
    main()

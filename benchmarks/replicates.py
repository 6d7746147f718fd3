"""How much faster are the replicates of a trial when they train together than one after another?

    python benchmarks/replicates.py

Both ways take the same optimiser steps on the same samples, on one CPU thread. They take turns,
and which goes first alternates, so that a machine that gets slower or busier in between hits both.
The ratio of each pair of turns is what counts; the table shows its median and its extremes.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from dgray.config.training import Fit
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.discriminator.fit import Task, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import MlpShape, initialise
from dgray.problem.build import build_noise_law, build_objective

REPLICATES = 8
NUM_REAL = 256  # one optimiser step an epoch
DEPTH = 3
STEPS = {16: 20, 64: 10, 256: 2}  # per width: a turn then takes from 0.2 to 2 seconds
OBJECTIVES = ("cross_entropy", "kl")

DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means, 1.4 * DATA.stds, DATA.weights)


class Case(NamedTuple):
    """What is trained."""

    objective: str
    width: int
    steps: int


def task(case: Case, settings: Fit, replicates: range) -> Task:
    """The training of these replicates."""
    real = [DATA.sample(NUM_REAL, named_generator(0, "real", r)) for r in replicates]
    generated = [BASE.sample(NUM_REAL, named_generator(0, "generated", r)) for r in replicates]
    needs_generated = case.objective == "cross_entropy"
    return Task(
        real=torch.stack(real).float(),
        generated=torch.stack(generated).float() if needs_generated else None,
        base=BASE.to("cpu", torch.float32),
        objective=build_objective(settings),
        draw_sigma=build_noise_law(settings.noise, (0.01, 20.0)),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )


def seconds(case: Case, groups: list[range]) -> float:
    """Wall time of training every group of replicates, one group after another."""
    fields = {"objective": case.objective, "epochs": case.steps, "batch_size": NUM_REAL}
    settings = Fit.model_validate(fields)
    shape = MlpShape(dimension=DATA.dimension, width=case.width, depth=DEPTH)
    work = []
    for replicates in groups:
        generators = [named_generator(0, "initial", r) for r in replicates]
        mlp = initialise(shape, DATA.std, generators)
        state = TrainingState.start(mlp, replicates=replicates)
        work.append((task(case, settings, replicates), state))
    started = time.perf_counter()
    for problem, state in work:
        for _ in fit(problem, settings, state):
            pass
    return time.perf_counter() - started


def together(case: Case) -> float:
    """All replicates as one ensemble."""
    return seconds(case, [range(REPLICATES)])


def apart(case: Case) -> float:
    """Every replicate alone."""
    return seconds(case, [range(r, r + 1) for r in range(REPLICATES)])


def measure(case: Case, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds together and apart, turn by turn; the first turn of each only warms up."""
    warm = case._replace(steps=1)
    together(warm)
    apart(warm)
    ways: tuple[Callable[[Case], float], ...] = (together, apart)
    found: dict[Callable[[Case], float], list[float]] = {way: [] for way in ways}
    for turn in range(repeats):
        for way in ways if turn % 2 == 0 else ways[::-1]:
            found[way].append(way(case))
    return found[together], found[apart]


def machine() -> str:
    """Date, processor, load and torch, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    date = datetime.date.today().isoformat()
    return f"{date}, {name}, {os.cpu_count()} CPUs{load}, torch {torch.__version__}"


def main() -> None:
    """Measure every case and print a line of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="pairs of turns per case")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{machine()}; {REPLICATES} replicates, {repeats} pairs of turns, one thread\n")
    print("| objective | width | ms a step, together | ms a step, apart | apart / together |")
    print("|---|---:|---:|---:|---:|")
    for objective in OBJECTIVES:
        for width, steps in STEPS.items():
            one, many = measure(Case(objective, width, steps), repeats)
            ratios = [b / a for a, b in zip(one, many, strict=True)]
            ms = [1000 * statistics.median(values) / steps for values in (one, many)]
            middle = statistics.median(ratios)
            spread = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {objective} | {width} | {ms[0]:.1f} | {ms[1]:.1f} | {spread} |")


if __name__ == "__main__":
    main()

"""Measure training steps: 16 replicates against plain loops, and KL against cross-entropy.

    python -m benchmarks steps

The plain side trains the replicates one after the other with automatic differentiation and fused
AdamW. Both sides draw the same numbers; the losses of the last step must agree.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.plain import Perceptron, train
from benchmarks.replicates import BASE, DATA, DEPTH, NUM_REAL, OBJECTIVES, Case, task
from benchmarks.turns import Cost, Pair, cost_of, machine, measure_in_turns
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_uniform
from dgray.discriminator.conv import initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.fit import Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import Mlp, MlpShape, initialise
from dgray.discriminator.objective import ObjectiveLoss
from dgray.problem.compute_process import prepare_process

REPLICATES = 16
REPEATS = 5
STEPS = {16: 20, 64: 8, 256: 2}
LEARNING_RATE = 1e-3
TOLERANCE = 1e-3  # relative difference of the last losses
GOALS = {16: 5.0, 64: 2.5, 256: 1.2}
IMAGE = (1, 16, 16)  # of the convolutional discriminator
CONV_REPLICATES, CONV_STEPS, CONV_BATCH = 4, 2, 64


def initial(width: int) -> Mlp:
    """Return the initial ensemble."""
    shape = MlpShape(dimension=DATA.dimension, width=width, depth=DEPTH)
    generators = [named_generator(0, "initial", r) for r in range(REPLICATES)]
    return initialise(shape, DATA.std, generators)


def together(case: Case, losses: dict[str, torch.Tensor]) -> Cost:
    """Train all replicates as one ensemble."""
    training = task(case, range(REPLICATES))
    state = TrainingState.start(initial(case.width), replicates=range(REPLICATES))
    schedule = TrainingSchedule(
        epochs=case.steps,
        checkpoints=(case.steps - 1, case.steps),
        batch_size=NUM_REAL,
        learning_rate=LEARNING_RATE,
    )

    def run() -> None:
        for checkpoint in fit(training, schedule, state):
            losses["dgray"] = checkpoint.losses[-1][1]

    return cost_of(run)


def one_by_one(case: Case, losses: dict[str, torch.Tensor]) -> Cost:
    """Train the replicates one after the other in plain PyTorch."""
    start, exact = initial(case.width), BASE.to("cpu", torch.float32).to("cpu", torch.float64)
    tasks = [task(case, range(r, r + 1)) for r in range(REPLICATES)]
    networks = [Perceptron(start.member(r)) for r in range(REPLICATES)]
    optimizers = [
        torch.optim.AdamW(n.parameters(), lr=LEARNING_RATE, weight_decay=0, fused=True)
        for n in networks
    ]

    def run() -> None:
        last = [
            train(tasks[r], networks[r], r, exact, range(1, case.steps + 1), optimizers[r])
            for r in range(REPLICATES)
        ]
        losses["plain"] = torch.stack(last)

    return cost_of(run)


def compare(case: Case) -> Pair:
    """Measure both sides in turns and compare their last losses."""
    losses: dict[str, torch.Tensor] = {}
    warm = case._replace(steps=2)
    together(warm, losses)
    one_by_one(warm, losses)
    pair = measure_in_turns(
        (lambda: together(case, losses), lambda: one_by_one(case, losses)), REPEATS
    )
    torch.testing.assert_close(losses["dgray"], losses["plain"], rtol=TOLERANCE, atol=0)
    return pair


def kl_against_ce(step: Callable[[str], Cost]) -> Pair:
    """Measure steps of both objectives in turns."""
    step("cross_entropy")
    step("kl")
    return measure_in_turns((lambda: step("cross_entropy"), lambda: step("kl")), REPEATS)


def perceptron_step(width: int) -> Callable[[str], Cost]:
    """Return the cost of training 16 perceptrons by an objective."""
    return lambda objective: together(Case(objective, width, STEPS[width]), {})


def conv_step(objective: str) -> Cost:
    """Train convolutional discriminators on samples of a mixture of two images."""
    dimension = IMAGE[1] * IMAGE[2]
    means = torch.stack([torch.linspace(-1, 1, dimension), torch.linspace(1, -1, dimension)])
    data = GaussianMixture(means, torch.full((2, dimension), 0.2), torch.full((2,), 0.5))
    base = GaussianMixture(means, data.stds * 2, data.weights)
    replicates = range(CONV_REPLICATES)
    draws = {
        name: torch.stack([law.sample(CONV_BATCH, named_generator(name, r)) for r in replicates])
        for name, law in (("real", data), ("generated", base))
    }
    training = Task(
        real=draws["real"],
        generated=draws["generated"] if objective == "cross_entropy" else None,
        base=base,
        loss=ObjectiveLoss(OBJECTIVES[objective]),
        draw_sigma=lambda g, count: log_uniform(torch.rand(count, generator=g), 0.05, 5.0),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )
    shape = ConvShape(image=IMAGE, width=16, depth=1)
    net = initialise_conv(shape, data.std, [named_generator("initial", r) for r in replicates])
    state = TrainingState.start(net, replicates=replicates)
    schedule = TrainingSchedule(
        epochs=CONV_STEPS,
        checkpoints=(CONV_STEPS,),
        batch_size=CONV_BATCH,
        learning_rate=LEARNING_RATE,
    )
    return cost_of(lambda: list(fit(training, schedule, state)))


def main() -> None:
    """Print both tables."""
    prepare_process(1)
    print(f"{machine()}, torch {torch.__version__}; {REPLICATES} replicates, {REPEATS} pairs\n")
    print("| objective | width | ms a step, dgray | ms, plain | plain / dgray | wall | goal |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for objective in OBJECTIVES:
        for width, steps in STEPS.items():
            pair = compare(Case(objective, width, steps))
            ms = " | ".join(f"{1000 * median / steps:.1f}" for median in pair.medians())
            ratios = f"{pair.ratios(2)} | {pair.ratios(2, 'wall')} | {GOALS[width]}"
            print(f"| {objective} | {width} | {ms} | {ratios} |", flush=True)
    print("\n| discriminator | KL step / CE step | goal |\n|---|---:|---:|")
    for width in STEPS:
        print(f"| mlp, width {width} | {kl_against_ce(perceptron_step(width)).ratios(2)} | 1.1 |")
    print(f"| conv | {kl_against_ce(conv_step).ratios(2)} | 1.1 |")


if __name__ == "__main__":
    main()

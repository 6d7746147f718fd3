"""Compare log-likelihoods of dgray with torchdiffeq's dopri5, one guided model at a time.

    python -m benchmarks ode

Four replicates are trained, and each is evaluated with five guidance weights at the same points.
dgray integrates all weights of a replicate at once, each point with its own steps; torchdiffeq has
one step size for all points of a model. Its tolerance is the loosest of a list whose mean error is
at most that of dgray, both measured against an integration with a thousandth of the tolerance. The
field of torchdiffeq is dgray's own, or one with automatic differentiation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

from benchmarks import replicates
from benchmarks.plain import Perceptron, log_prior, mixture_score_and_divergence
from benchmarks.turns import Cost, cost_of, machine, measure_in_turns
from dgray.correction.guidance import Guidance
from dgray.correction.weight import ConstantWeight, PerRowWeight
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.noise import named_generator
from dgray.discriminator.fit import TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import Mlp, MlpShape, initialise
from dgray.problem.compute_process import prepare_process

REPLICATES, WIDTH, EPOCHS, POINTS = 4, 16, 400, 300
WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5)
SPAN, TOLERANCE = (0.01, 20.0), 1e-3
RELATIVE_TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6, 1e-7)
REPEATS = 5
BASE = replicates.BASE.to("cpu", torch.float64)

Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""x (n, d) and sigma (n,) -> denoised x and its divergence."""


def discriminators() -> list[Mlp]:
    """Train the replicates for a few hundred epochs."""
    members = range(REPLICATES)
    shape = MlpShape(dimension=2, width=WIDTH, depth=3)
    start = initialise(
        shape, replicates.DATA.std, [named_generator(0, "initial", r) for r in members]
    )
    state = TrainingState.start(start, replicates=members)
    schedule = TrainingSchedule(
        epochs=EPOCHS, checkpoints=(EPOCHS,), batch_size=replicates.NUM_REAL, learning_rate=2e-3
    )
    task = replicates.task(replicates.Case("cross_entropy", WIDTH, EPOCHS), members)
    (checkpoint,) = fit(task, schedule, state)
    ensemble = checkpoint.ensemble
    assert isinstance(ensemble, Mlp)
    return [ensemble.member(r) for r in members]


def points() -> Tensor:
    """Return points at the lowest noise level."""
    generator = named_generator("points")
    x = replicates.DATA.sample(POINTS, generator).double()
    return x + SPAN[0] * torch.randn(x.shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def by_dgray(members: list[Mlp], x: Tensor, tolerance: float) -> Tensor:
    """Return log-densities, shape (replicates, weights, points)."""
    owner = torch.arange(len(WEIGHTS)).repeat_interleave(len(x))
    weights = [ConstantWeight(w) for w in WEIGHTS]
    values = []
    for member in members:
        guidance = Guidance(member)

        def field(
            x: Tensor, sigma: Tensor, index: Tensor, guidance: Guidance = guidance
        ) -> tuple[Tensor, Tensor]:
            guided = guidance.denoiser(BASE, PerRowWeight(weights, owner[index]))
            return guided.with_divergence(x, sigma)

        flow = ode_log_likelihood(
            field,
            x.repeat(len(WEIGHTS), 1),
            SPAN,
            prior_std=SPAN[1],
            tolerance=tolerance,
        )
        values.append(flow.log_prob.view(len(WEIGHTS), -1))
    return torch.stack(values)


def own_field(member: Mlp, weight: float) -> Field:
    """Return the field of dgray for one model."""
    guided = Guidance(member).denoiser(BASE, ConstantWeight(weight))
    return lambda x, sigma: guided.with_divergence(x, sigma)


def plain_field(member: Mlp, weight: float) -> Field:
    """Return the same field with automatic differentiation."""
    network = Perceptron(member)

    def field(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        score, divergence = mixture_score_and_divergence(BASE, x, sigma)
        gradient, laplacian = network.gradient_and_laplacian(x, sigma)
        total = score + weight * gradient
        variance = sigma**2
        change = x.shape[1] + variance * (divergence + weight * laplacian)
        return x + variance[:, None] * total, change

    return field


@torch.no_grad()
def by_torchdiffeq(
    members: list[Mlp], x: Tensor, rtol: float, make: Callable[[Mlp, float], Field]
) -> Tensor:
    """Return the same log-densities, one model after the other."""
    times = torch.tensor(SPAN, dtype=torch.float64).log()
    values = []
    for member in members:
        for weight in WEIGHTS:
            field = make(member, weight)

            def slope(t: Tensor, y: Tensor, field: Field = field) -> Tensor:
                z = y[:, :-1]
                denoised, divergence = field(z, t.exp().expand(len(z)))
                return torch.cat([z - denoised, (z.shape[1] - divergence)[:, None]], 1)

            start = torch.cat([x, torch.zeros(len(x), 1, dtype=torch.float64)], 1)
            end = odeint(slope, start, times, rtol=rtol, atol=rtol, method="dopri5")[-1]
            values.append(log_prior(end[:, :-1], SPAN[1]) + end[:, -1])
    return torch.stack(values).view(len(members), len(WEIGHTS), -1)


def main() -> None:
    """Choose the tolerance of equal error, and measure."""
    prepare_process(1)
    members, x = discriminators(), points()
    exact = by_dgray(members, x, TOLERANCE / 1000)
    error = float((by_dgray(members, x, TOLERANCE) - exact).abs().mean())
    rtol, others = math.nan, math.nan
    for rtol in RELATIVE_TOLERANCES:
        others = float((by_torchdiffeq(members, x, rtol, own_field) - exact).abs().mean())
        if others <= error:
            break
    assert others <= error, "torchdiffeq did not reach the error of dgray"
    print(f"{machine()}, torch {torch.__version__}; {REPEATS} pairs of calls")
    print(f"mean error in nats: dgray {error:.1e}, torchdiffeq {others:.1e} at rtol {rtol:g}\n")
    print(
        "| field of torchdiffeq | dgray, s | torchdiffeq, s | torchdiffeq / dgray | wall | goal |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, make in (("dgray's", own_field), ("automatic differentiation", plain_field)):
        results: dict[str, Tensor] = {}

        def ours(results: dict[str, Tensor] = results) -> Cost:
            return cost_of(lambda: results.update(ours=by_dgray(members, x, TOLERANCE)))

        def theirs(results: dict[str, Tensor] = results, make: object = make) -> Cost:
            return cost_of(lambda: results.update(theirs=by_torchdiffeq(members, x, rtol, make)))

        pair = measure_in_turns((ours, theirs), REPEATS)
        difference = float((results["ours"] - results["theirs"]).abs().mean())
        assert difference <= 2 * error, difference
        ours_s, theirs_s = pair.medians()
        ratios = f"{pair.ratios(1)} | {pair.ratios(1, 'wall')} | 5"
        print(f"| {name} | {ours_s:.2f} | {theirs_s:.1f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()

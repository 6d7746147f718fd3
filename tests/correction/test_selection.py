"""Rejection and Metropolis on mixtures, where the corrected law is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgray.correction.metropolis import MetropolisRule, log_chain_density
from dgray.correction.rejection import RejectionRule
from dgray.correction.selection import Selected, SelectionRule, select
from dgray.diffusion.mixture import GaussianMixture
from dgray.discriminator.discriminator import Oracle, Oscillating
from dgray.metrics.tilt import Tilt


def gaussian(mean: float, std: float) -> GaussianMixture:
    values = (torch.tensor([[v]], dtype=torch.float64) for v in (mean, std))
    return GaussianMixture(*values, torch.ones(1, dtype=torch.float64))


DATA, BASE = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
KL = 0.5 * ((1 + 0.25) / 1.44 - 1 + math.log(1.44))
ORACLE = Oracle(DATA, BASE)


def at_zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x[..., 0])


def draws(law: GaussianMixture, count: int, seed: int) -> Tensor:
    return law.sample(count, torch.Generator().manual_seed(seed))


def uniforms(*shape: int, seed: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def logit(x: Tensor) -> Tensor:
    return ORACLE.logit(x, at_zero(x))


def selected(rule: SelectionRule, count: int, start: Tensor | None = None) -> Selected:
    """Proposals are samples of the base; the first one may be given."""

    def propose(number: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = draws(BASE, count, 100 + number)[rows]
        if start is not None and number == rule.proposals[0]:
            x = start[rows]
        return x, logit(x), uniforms(count, seed=900 + number)[rows]

    return select(rule, propose, count)


def assert_is_data(samples: Tensor) -> None:
    """Moments of a sample of the data, N(0, 1)."""
    samples, error = samples[:, 0], 1 / math.sqrt(len(samples))
    assert float(samples.mean()) == pytest.approx(0, abs=4 * error)
    assert float(samples.var()) == pytest.approx(1, abs=4 * math.sqrt(2) * error)
    assert float((samples**4).mean()) == pytest.approx(3, abs=4 * math.sqrt(96) * error)


def test_rejection_by_the_exact_log_ratio_gives_the_law_of_the_data() -> None:
    highest = float(logit(torch.linspace(-9, 9, 10_001, dtype=torch.float64)[:, None]).exp().max())
    kept = selected(RejectionRule(1.0, highest), 20_000)
    assert_is_data(kept.samples)
    assert float(kept.num_proposals.double().mean()) == pytest.approx(highest, rel=0.02)


@pytest.mark.parametrize(
    "rule",
    [
        RejectionRule(1.0, 1.2),
        RejectionRule(0.5, 8.0),
        RejectionRule(0.0, 20.0),
        RejectionRule(-40.0, 4.0),  # the last proposal is reached
        MetropolisRule(1.0, 6),
    ],
)
def test_expected_proposals_are_those_drawn(rule: SelectionRule) -> None:
    counts = selected(rule, 4000).num_proposals.double()
    expected = rule.expected_proposals(logit(draws(BASE, 100_000, 7)))
    assert expected == pytest.approx(float(counts.mean()), abs=4 * float(counts.std()) / 63 + 1e-9)


@pytest.mark.parametrize("logit_of_base", [-40.0, -600.0, -2000.0])
def test_if_hardly_a_sample_is_accepted_every_proposal_is_drawn(logit_of_base: float) -> None:
    rejected = torch.full((5,), logit_of_base, dtype=torch.float64)
    assert RejectionRule(1.0, 2.0).expected_proposals(rejected) == pytest.approx(20)


@pytest.mark.parametrize("rule", [RejectionRule(0.0, 20.0), MetropolisRule(0.0, 4)])
def test_weight_0_keeps_the_sample_of_the_base(rule: SelectionRule) -> None:
    assert torch.equal(selected(rule, 50).samples, draws(BASE, 50, 100))


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("bound", [1.0, 1.3, 3.0])
def test_kl_of_the_accepted_law_agrees_with_quadrature(weight: float, bound: float) -> None:
    """A bound below the supremum of the ratio accepts another law, which is covered too."""
    rule = RejectionRule(weight, bound)
    wave = Oscillating(ORACLE, amplitude=0.4, frequency=5.0)
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    p, q = (law.log_prob(x, at_zero(x)).exp() for law in (DATA, BASE))
    kept = q * torch.exp(
        torch.minimum(weight * wave.logit(x, at_zero(x)) - math.log(bound), at_zero(x))
    )
    step = 24 / 200_000
    law = kept / (kept.sum() * step)
    exact = float((p * (p / law).log())[p > 1e-300].sum() * step)
    real, generated = draws(DATA, 40_000, 2), draws(BASE, 40_000, 3)
    of_real, of_base = (wave.logit(points, at_zero(points)) for points in (real, generated))
    change = Tilt(rule.log_tilt, of_base).change(of_real)
    assert change.value == pytest.approx(exact - KL, abs=4 * change.se)
    assert change.se < 0.01


def test_error_of_the_change_is_its_spread_over_new_samples() -> None:
    rules: list[SelectionRule] = [RejectionRule(1.0, 1.2), MetropolisRule(1.0, 3)]
    for rule in rules:
        changes = [
            Tilt(rule.log_tilt, logit(draws(BASE, 500, 2 * i + 1))).change(
                logit(draws(DATA, 500, 2 * i))
            )
            for i in range(60)
        ]
        spread = float(torch.tensor([c.value for c in changes]).std())
        stated = float(torch.tensor([c.se for c in changes]).mean())
        assert stated == pytest.approx(spread, rel=0.3)
        parts = math.sqrt(sum(part**2 for part in changes[0].parts))
        assert parts == pytest.approx(changes[0].se, rel=0.35)


def test_metropolis_leaves_the_law_of_the_data_invariant() -> None:
    start = draws(DATA, 20_000, 4)
    moved = selected(MetropolisRule(1.0, 5), 20_000, start).samples
    assert float((moved == start).double().mean()) < 0.05
    assert_is_data(moved)


@pytest.mark.parametrize("moves", [1, 2, 5])
def test_law_of_the_chain_agrees_with_a_chain_on_a_grid(moves: int) -> None:
    """The transition matrix of a discretised chain, without the reduction to one weight."""
    x = torch.linspace(-5, 6, 1201, dtype=torch.float64)[:, None]
    q = BASE.log_prob(x, at_zero(x)).exp()
    q = q / q.sum()
    weight = logit(x)
    accept = torch.exp((weight[None] - weight[:, None]).clamp(max=0))  # from row to column
    moving = q[None] * accept
    matrix = moving + torch.diag(1 - moving.sum(1))
    law = q @ torch.linalg.matrix_power(matrix, moves)
    base = logit(draws(BASE, 200_000, 6))
    density = log_chain_density(weight, base, moves).exp()
    inside = q > 1e-5
    torch.testing.assert_close(density[inside], (law / q)[inside], rtol=0.02, atol=0.0)


def test_the_chain_converges_to_the_data_and_conserves_probability() -> None:
    real, base = logit(draws(DATA, 5000, 7)), logit(draws(BASE, 20_000, 8))
    assert float(log_chain_density(base, base, 7).exp().mean()) == pytest.approx(1, abs=1e-12)
    changes = [Tilt(MetropolisRule(1.0, k).log_tilt, base).change(real) for k in (1, 3, 30)]
    assert changes[0].value > changes[1].value > changes[2].value
    assert changes[2].value == pytest.approx(-KL, abs=4 * changes[2].se)


def test_extreme_logits_stay_finite() -> None:
    base = torch.linspace(-2000, 30, 101, dtype=torch.float64)
    points = torch.tensor([-3000.0, 0.0, 900.0], dtype=torch.float64)
    assert torch.isfinite(MetropolisRule(1.0, 4).log_tilt(points, base)).all()


def test_an_oscillating_logit_moves_the_accepted_law_by_its_values_alone() -> None:
    """The amplitude counts, the frequency does not, unlike in gradient guidance."""
    real, generated = draws(DATA, 40_000, 2), draws(BASE, 40_000, 3)
    for frequency in (1.0, 10.0, 100.0):
        wave = Oscillating(ORACLE, amplitude=0.1, frequency=frequency)
        values = [wave.logit(points, at_zero(points)) for points in (real, generated)]
        exact = [logit(points) for points in (real, generated)]
        tilt = RejectionRule(1.0, 100.0).log_tilt
        harmed, ideal = (Tilt(tilt, v[1]).change(v[0]).value for v in (values, exact))
        assert abs(harmed - ideal) < 0.006  # amplitude^2 / 4 = 0.0025

"""The estimate: monotone in what costs time, right about parallelism, and shown by --plan."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dgray.cli.plan_view import render_plan
from dgray.config.reading.load import load_study
from dgray.diffusion.noise import named_generator
from dgray.discriminator.conv import initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.plan import cost, work
from dgray.plan.cost import duration, estimate
from dgray.plan.plan import Plan, make_plan

STUDY = """\
name: costs
data: {kind: mixture, name: ring8}
base: {kind: wrong_mixture}
discriminator: {width: [64, 128]}
fit: {objective: [cross_entropy, kl], epochs: 50}
"""


def plan_of(folder: Path, *overrides: str) -> Plan:
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return make_plan(load_study(path, overrides))


def test_the_time_of_a_fit_is_its_operations_over_the_speed(tmp_path: Path) -> None:
    """Twice the epochs add one more fit: counted here by hand from the study's numbers."""
    one = "discriminator.width=64", "fit.objective=cross_entropy"
    short, long = (
        estimate(plan_of(tmp_path, *one, f"fit.epochs={n}"), cpus=1).trial_seconds[-1]
        for n in (50, 100)
    )
    macs = (2 + 3) * 64 + 2 * 64**2 + 64  # x and three features of sigma, two products, one logit
    steps = 4 * 50  # 1000 samples in batches of 256
    flops = 6 * macs * (2 * 256) * 3 * steps
    seconds = flops / work.MLP_FLOPS + 60 * steps * work.SECONDS_PER_OPERATION
    seconds += 3 * 50 * work.SECONDS_PER_DRAW  # three replicates, fifty epochs
    assert long - short == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(
    "override",
    [
        "fit.epochs=500",
        "fit.checkpoints=[10, 50]",
        "replicates=6",
        "discriminator.width=[64, 256]",
        "data.num_real=10000",
        "evaluate.guidance_weight=[0.5, 1, 2]",
        "evaluate.num_samples=9000",
        "evaluate.num_points=1500",
        "evaluate.num_steps=[8, 64]",
        "data.num_held_out=20000",
        "base={kind: trained}",
        "fit.gradient_penalty=1",
    ],
)
def test_more_work_takes_longer(tmp_path: Path, override: str) -> None:
    less = estimate(plan_of(tmp_path), cpus=1).wall_seconds
    assert estimate(plan_of(tmp_path, override), cpus=1).wall_seconds > less


@pytest.mark.parametrize(
    ("overrides", "cpus", "gpus", "parallel"),
    [
        ((), 1, 0, 1),
        ((), 4, 0, 4),
        ((), 100, 0, 5),  # no more than there are trials
        (("resources.cpus_per_trial=2",), 5, 0, 2),
        (("resources.cpus_per_trial=8",), 4, 0, 1),
        (("resources.max_concurrent_trials=2",), 100, 0, 2),
        (("resources.gpus_per_trial=0.5",), 100, 1, 2),
        (("resources.gpus_per_trial=0.4",), 100, 2, 4),  # a fifth would need a part of either
        (("resources.gpus_per_trial=2",), 100, 5, 2),
    ],
)
def test_trials_at_a_time(
    tmp_path: Path, overrides: tuple[str, ...], cpus: int, gpus: int, parallel: int
) -> None:
    plan = plan_of(tmp_path, *overrides)
    assert estimate(plan, cpus=cpus, gpus=gpus).parallel_trials == parallel


def test_the_wall_time_is_that_of_the_fullest_worker(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    alone, two, many = (estimate(plan, cpus=cpus) for cpus in (1, 2, 5))
    base, *guided = alone.trial_seconds
    around = cost.START_SECONDS + cost.report_seconds(plan)
    assert alone.wall_seconds == pytest.approx(around + sum(alone.trial_seconds))
    assert many.wall_seconds == pytest.approx(around + max(alone.trial_seconds))
    # Two workers: the base and the first start; each next one starts where there is room first.
    ends = [base, guided[0]]
    for seconds in guided[1:]:
        ends[ends.index(min(ends))] += seconds
    assert two.wall_seconds == pytest.approx(around + max(ends))


def shown(plan: Plan, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_plan(plan, estimate(plan, cpus=2)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_shows_axes_trials_and_totals_plainly(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "description=How long?", "evaluate.guidance_interval=[0.1, 2]")
    text = shown(plan)
    assert "\x1b" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "study costs" in lines
    assert "How long?" in lines
    assert "discriminator.width 64, 128 training" in lines
    assert "fit.checkpoints 50 epochs" in lines
    assert "evaluate.guidance_weight 1, calibrated evaluation" in lines
    assert "evaluate.guidance_interval [0.1, 2] evaluation" in lines
    assert any(line.startswith("kl width=128 6 = 3 x 1 x 2 ") for line in lines)
    assert "networks trained 12" in lines
    assert "rows 25" in lines
    assert "trials at a time 2" in lines


def test_many_trials_are_cut_short(tmp_path: Path) -> None:
    seeds = ", ".join(map(str, range(30)))
    plan = plan_of(tmp_path, f"seed=[{seeds}]", "discriminator.width=8")
    assert len(plan.trials) == 90
    assert "and 50 more" in shown(plan)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("image", [(1, 16, 16), (3, 64, 64), (256, 8, 8)])
def test_a_convolutional_network_is_stored_by_its_weights(image: tuple[int, int, int]) -> None:
    """The multiplications of a convolutional network exceed the number of its weights."""
    shape = ConvShape(image=image, width=16, depth=2)
    weights = initialise_conv(shape, 0.5, [named_generator(0)]).num_parameters
    assert weights / 2 < work.CONV_WEIGHTS * 16**2 * 2 < 2 * weights


@pytest.mark.parametrize(
    ("correction", "override"),
    [
        ("rejection", "correction.max_ratio=50"),
        ("metropolis", "correction.moves=50"),
        ("fine_tune", "base={kind: trained, width: 256, steps: 10, num_real: 50}"),
        ("sims", "discriminator.width=256"),
    ],
)
def test_a_correction_costs_more_with_more_work(
    correction: str, override: str, tmp_path: Path
) -> None:
    of = (
        f"correction.kind={correction}",
        "discriminator.width=8",
        "fit.objective=cross_entropy",
        "base={kind: trained, width: 8, steps: 10, num_real: 50}",
    )
    less, more = (
        estimate(plan_of(tmp_path, *of, *overrides), cpus=1).trial_seconds[-1]
        for overrides in ((), (override,))
    )
    assert more > 1.05 * less

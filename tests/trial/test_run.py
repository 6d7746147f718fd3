"""Rows of trials of points: closed forms, consistency, and resumption."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from dgray.config.reading.load import load_study
from dgray.plan.plan import Trial, make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem
from dgray.problem.shared import build_artifacts
from dgray.record.row import CheckpointResult, Resume, Row, column_names
from dgray.trial.run import run_trial

STUDY = """
name: tiny
replicates: 2
diffusion: {sigma_min: 0.01, sigma_max: 80}
data: {kind: mixture, name: ring8, num_real: 60, num_validation: 300, num_held_out: 300}
base: {kind: wrong_mixture, std_scale: 1.4, mean_scale: 1.1, num_generated: 80}
discriminator: {width: 12, depth: 2}
fit: {objective: kl, epochs: 8, checkpoints: [4, 8], batch_size: 30}
evaluate:
  guidance_weight: [0.5, 1, calibrated]
  sampler: [ode, sde]
  num_steps: 12
  metrics: [kl, path_kl, kl_sde, kl_sampler, memorisation]
  num_points: 60
  num_samples: 100
"""


class Memory(dict[str, bytes]):
    def read_artifact(self, key: str) -> bytes | None:
        return self.get(key)

    def write_artifact(self, key: str, content: bytes) -> None:
        self[key] = content

    def delete_artifact(self, key: str) -> None:
        self.pop(key, None)


def plan_of(folder: Path, *overrides: str, text: str = STUDY) -> tuple[Trial, ...]:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return make_plan(load_study(path, overrides)).trials


def results(trial: Trial, **resume: Resume) -> list[CheckpointResult]:
    return list(run_trial(trial, build_artifacts([trial], Memory()), **resume))


def test_a_trial_imports_no_compiler(tmp_path: Path) -> None:
    """Neither its optimiser nor the count of its operations: that takes 1.4 s of CPU."""
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.trial.test_run import *\n"
        "trial = plan_of(Path(sys.argv[1]), 'evaluate.metrics=[path_kl]')[-1]\n"
        "assert results(trial)[-1].rows[0].metrics['sample_flops'] > 0\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def rows_of(trials: tuple[Trial, ...], objective: str) -> list[Row]:
    (trial,) = [t for t in trials if t.objective == objective]
    return [row for result in results(trial) for row in result.rows]


def metrics(row: Row) -> dict[str, object]:
    names = column_names("identity", "metric")
    return {name: row[name] for name in names}


@pytest.fixture(scope="module")
def kl_trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    trials = plan_of(tmp_path_factory.mktemp("study"))
    return next(t for t in trials if t.objective == "kl")


@pytest.fixture(scope="module")
def of_kl(kl_trial: Trial) -> list[CheckpointResult]:
    torch.manual_seed(1)
    return results(kl_trial)


@pytest.fixture(scope="module")
def kl_rows(of_kl: list[CheckpointResult]) -> list[Row]:
    return [row for result in of_kl for row in result.rows]


def test_kl_of_the_base_is_the_mean_log_ratio_on_the_same_points(tmp_path: Path) -> None:
    trials = plan_of(tmp_path)
    base = next(t for t in trials if t.objective == "base")
    problem = build_problem(base.config, Shared({}), torch.device("cpu"))
    points = problem.likelihood_points("held_out")
    log_ratio = problem.log_ratio()
    assert log_ratio is not None
    exact = log_ratio.logit(points, torch.full_like(points[:, 0], 0.01))
    rows = rows_of(trials, "base")
    (ode,) = [r for r in rows if r.sampler == "ode"]
    assert ode["kl"] == pytest.approx(float(exact.mean()), abs=1e-3)
    assert ode["kl_se"] == pytest.approx(float(exact.std()) / 60**0.5, rel=1e-2)
    assert ode["kl_change"] == 0
    assert ode["path_kl_change"] == 0
    assert ode["path_kl"] == pytest.approx(ode["kl"], abs=4 * ode["kl_se"] + 0.1)


def test_every_kl_of_the_oracle_is_zero(tmp_path: Path) -> None:
    trials = plan_of(tmp_path, "fit.objective=oracle", "evaluate.num_samples=300")
    rows = [r for r in rows_of(trials, "oracle") if r.guidance_weight == 1]
    by_sampler = {r.sampler: r for r in rows}
    assert abs(by_sampler["ode"]["kl"]) <= 3e-3
    assert abs(by_sampler["ode"]["path_kl"]) <= 1e-3
    sde = by_sampler["sde"]
    assert sde["kl_sde"] is not None
    assert sde["kl_sde_se"] is not None
    assert abs(sde["kl_sde"] - sde["kl_sde_floor"]) < 5 * sde["kl_sde_se"]
    assert sde["cross_entropy_gap"] == 0


def test_every_setting_has_a_row_with_the_metrics_of_its_sampler(kl_rows: list[Row]) -> None:
    rows = kl_rows
    assert len(rows) == 2 * 2 * 6  # replicates x checkpoints x settings
    assert len({(r.replicate, r.epoch, r.guidance_weight, r.sampler) for r in rows}) == len(rows)
    for row in rows:
        assert row["path_kl"] is not None
        assert (row["kl"] is not None) == (row.sampler == "ode")
        assert (row["kl_integration_error"] is not None) == (row.sampler == "ode")
        assert (row["kl_sampler"] is not None) == (row.sampler == "ode")
        assert row["kl_sampler_folded"] == (0 if row.sampler == "ode" else None)
        assert (row["kl_sde_change"] is not None) == (row.sampler == "sde")
        assert (row["kl_sde"] is not None) == (row.sampler == "sde")
        assert row["memorisation"] is not None
        assert (row["calibrated_weights"] is not None) == row.is_calibrated
        assert row["loss_train_bins"] is not None
        assert len(row["loss_train_bins"]) == len(row["sigma_edges"]) - 1


def test_every_change_of_the_base_is_zero(tmp_path: Path) -> None:
    for row in rows_of(plan_of(tmp_path), "base"):
        changes = (row["kl_change"], row["path_kl_change"], row["kl_sde_change"])
        assert all(change in (0, None) for change in changes)
        assert row["accuracy"] == 0.5


def test_replicates_differ(kl_rows: list[Row]) -> None:
    first, second = (
        [r["path_kl"] for r in kl_rows if r.replicate == i and r.guidance_weight == 1]
        for i in (0, 1)
    )
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_trial_is_a_function_of_its_plan(kl_trial: Trial, kl_rows: list[Row]) -> None:
    torch.manual_seed(2)
    torch.rand(3)
    again = [metrics(row) for result in results(kl_trial) for row in result.rows]
    assert again == [metrics(row) for row in kl_rows]


def test_a_resumed_trial_has_the_same_rows(kl_trial: Trial, of_kl: list[CheckpointResult]) -> None:
    first, second = of_kl
    assert first.state is not None
    assert second.state is not None
    due = replace(kl_trial, epochs=(8,))
    stored = {4: first.state, 8: second.state}
    (rest,) = results(due, resume=lambda epoch: (4, stored[4]))
    assert rest.epoch == 8
    assert [metrics(r) for r in rest.rows] == [metrics(r) for r in second.rows]
    assert rest.losses == second.losses
    (evaluated,) = results(due, resume=lambda epoch: (epoch, stored[epoch]))
    assert [metrics(r) for r in evaluated.rows] == [metrics(r) for r in second.rows]
    assert evaluated.losses == ()  # nothing was trained


def test_predictor_only_guidance_acts_at_half_its_weight(tmp_path: Path) -> None:
    trials = plan_of(
        tmp_path,
        "evaluate.guidance_weight=[0.5, 1]",
        "evaluate.guided_stage=[both, predictor]",
        "evaluate.sampler=ode",
        "evaluate.metrics=[kl, path_kl, kl_sampler]",
    )
    rows = {(r.guidance_weight, r.guided_stage): r for r in rows_of(trials, "kl")}
    assert rows[(1.0, "predictor")]["path_kl"] == rows[(0.5, "both")]["path_kl"]
    assert rows[(1.0, "predictor")]["kl"] == rows[(0.5, "both")]["kl"]
    assert rows[(1.0, "predictor")]["kl_sampler"] != rows[(0.5, "both")]["kl_sampler"]


def test_guidance_acts_inside_its_interval_only(tmp_path: Path) -> None:
    trials = plan_of(
        tmp_path,
        "evaluate.guidance_interval=[0.3, 3]",
        "evaluate.sampler=ode",
        "evaluate.metrics=[path_kl]",
        "evaluate.num_samples=10",
    )
    (base,) = rows_of(trials, "base")
    row = next(r for r in rows_of(trials, "kl") if r.guidance_weight == 1)
    edges = row["sigma_edges"]
    inside = [low >= 0.3 and high <= 3 for low, high in pairwise(edges)]
    outside = [high <= 0.3 or low >= 3 for low, high in pairwise(edges)]
    assert any(inside)
    for value, of_base, within, without in zip(
        row["path_kl_bins"], base["path_kl_bins"], inside, outside, strict=True
    ):
        if without:
            assert value == of_base
        if within:
            assert value != of_base


def test_the_ends_of_an_interval_add_no_integration_error(tmp_path: Path) -> None:
    study = (
        "fit.objective=oscillating",
        "fit.oscillation.frequency=1",
        "evaluate.guidance_interval=[0.3, 3]",
        "evaluate.guidance_weight=[1]",
        "evaluate.sampler=ode",
        "evaluate.metrics=[kl]",
        "evaluate.num_samples=10",
        "evaluate.num_points=8",
        "evaluate.max_steps=100000",
    )
    coarse, fine = (
        rows_of(plan_of(tmp_path, *study, f"evaluate.tolerance={tolerance}"), "oscillating")[0]
        for tolerance in ("1e-4", "1e-6")
    )
    assert coarse["kl_unconverged"] == fine["kl_unconverged"] == 0
    assert abs(coarse["kl"] - fine["kl"]) < 1e-4
    assert abs(coarse["kl"] - fine["kl"]) < coarse["kl_integration_error"] < 1e-2


def test_a_trained_base_needs_no_density(tmp_path: Path) -> None:
    base = (
        "base={kind: trained, width: 16, depth: 2, num_real: 200, steps: 300, num_generated: 80}"
    )
    trials = plan_of(
        tmp_path, base, "fit.objective=[cross_entropy, kl]", "fit.checkpoints=[8]", "replicates=1"
    )
    (row,) = [r for r in rows_of(trials, "base") if r.sampler == "ode"]
    assert row["kl"] > 0
    assert row["kl_unconverged"] == 0
    assert row["path_kl"] == pytest.approx(row["kl"], rel=0.6)
    for objective in ("cross_entropy", "kl"):
        rows = rows_of(trials, objective)
        assert all(r.status == "ok" and r["cross_entropy_gap"] is None for r in rows)
        assert all(r["kl"] is not None for r in rows if r.sampler == "ode")


@pytest.mark.parametrize("name", ["five_gaussians_1d", "axes16"])
def test_other_dimensions(tmp_path: Path, name: str) -> None:
    trials = plan_of(
        tmp_path,
        f"data.name={name}",
        "evaluate.metrics=[kl, path_kl]",
        "evaluate.sampler=[ode, churn]",
        "fit.objective=mixed",
        "fit.checkpoints=[8]",
        "replicates=1",
        "data.num_held_out=100",
        "data.num_validation=100",
        "evaluate.num_points=8",
        "evaluate.num_samples=20",
    )
    rows = rows_of(trials, "mixed")
    assert all(r["path_kl"] is not None for r in rows)
    oracle = plan_of(
        tmp_path,
        f"data.name={name}",
        "fit.objective=oracle",
        "evaluate.metrics=[kl]",
        "evaluate.sampler=ode",
        "evaluate.num_points=100",
        "evaluate.num_samples=20",
    )
    kl = next(r["kl"] for r in rows_of(oracle, "oracle") if r.guidance_weight == 1)
    assert abs(kl) <= 3e-3


def test_clouds_show_data_training_points_and_samples(
    tmp_path: Path, of_kl: list[CheckpointResult]
) -> None:
    base = next(t for t in plan_of(tmp_path) if t.objective == "base")
    assert {c.source for c in results(base)[0].clouds} == {"data", "base"}
    clouds = of_kl[0].clouds
    assert {c.source for c in clouds} == {"real", "guided"}
    assert all(len(c.points[0]) == 2 for c in clouds)
    assert len(next(c for c in clouds if c.source == "real").points) == 60


def test_stored_artifacts_are_not_computed_again(tmp_path: Path) -> None:
    base = "base={kind: trained, width: 8, depth: 1, num_real: 50, steps: 5, num_generated: 20}"
    trials = plan_of(tmp_path, base, "fit.objective=[cross_entropy, kl]")
    store = Memory()
    first = build_artifacts(trials, store)
    assert {key.split("-")[0] for key in first} == {"base", "generated", "likelihood"}
    before = dict(store)
    store.write_artifact = None  # type: ignore[method-assign, assignment]
    assert build_artifacts(trials, store) == before


def test_rows_are_plain_values(tmp_path: Path) -> None:
    for row in rows_of(plan_of(tmp_path), "base"):
        for value in row.columns().values():
            assert value is None or isinstance(value, str | bool | int | float | list)

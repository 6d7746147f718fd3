"""A trial of points of a file, with classes: what its rows have, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from dgray.config.reading.load import load_study
from dgray.errors import StudyError
from dgray.plan.plan import make_plan
from dgray.problem.build import build_problem
from dgray.problem.inputs import inspect
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import build_artifacts
from dgray.trial.run import run_trial
from tests.trial.test_run import Memory

STUDY = """
name: stored
replicates: 1
diffusion: {{sigma_min: 0.05, sigma_max: 10}}
data: {{kind: points, path: {path}, label: y, num_real: 60, num_validation: 50, num_held_out: 70}}
base: {{kind: trained, width: 16, depth: 1, steps: 60, num_real: 100, num_generated: 50,
  conditional: true}}
discriminator: {{width: 8, depth: 1, conditional: true}}
fit: {{objective: cross_entropy, epochs: 2, checkpoints: [2]}}
evaluate: {{guidance_weight: 1, sampler: [ode, sde], num_steps: 6, num_points: 20, num_samples: 40,
  metrics: [path_kl, nll, fd, kid, precision, recall, kl_sde{more}]}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    y = np.arange(300) % 2
    np.savez(tmp_path / "points.npz", x=generator.normal(y[:, None] * 3, [1, 2], (300, 2)), y=y)
    study = tmp_path / "stored.yaml"
    study.write_text(STUDY.format(path=tmp_path / "points.npz", more=""))
    return study


def test_rows_of_a_trial(path: Path) -> None:
    plan = make_plan(load_study(path))
    inspection = inspect(plan)
    inspection.check()
    assert inspection.lines[0] == "points: 300 points of 2 dimensions"
    trial = next(t for t in plan.trials if t.objective == "cross_entropy")
    shared = build_artifacts([trial], Memory())
    (result,) = run_trial(trial, shared)
    ode, sde = result.rows
    for name in ("nll", "kl_change", "path_kl_change", "fd", "kid", "precision", "recall"):
        assert np.isfinite(ode[name]), name
        assert np.isfinite(ode[f"{name}_se"]), name
    assert ode["path_kl"] is None
    assert ode["kl"] is None
    assert (ode["features"], ode["num_reference"]) == ("fd_raw", 70)
    assert np.isfinite(sde["kl_sde_floor"])
    problem = build_problem(trial.config, shared_of(trial.config, shared), torch.device("cpu"))
    assert problem.num_classes == 2
    real, labels = problem.real_labelled("held_out")
    assert labels is not None
    first = [float(real[labels == c, 0].mean()) for c in range(2)]
    assert first[1] - first[0] > 1  # labels belong to their points
    estimate = problem.likelihood_estimates(real, Normal(0.0, 1.0).log_prob(real).sum(1), labels)[
        "nll"
    ]
    standardised = np.log(2 * np.pi) + 1
    assert abs(estimate.value - standardised) < 4 * estimate.se


def test_what_points_of_a_file_cannot_give_is_refused(path: Path) -> None:
    for override, message in (
        ("evaluate.metrics=[kl]", "'kl' needs data of known density"),
        ("evaluate.metrics=[fid]", "'fid' needs images"),
        ("fit.objective=oracle", "needs the exact log-ratio"),
        ("base={kind: wrong_mixture}", "needs data of known density"),
        ("data.factory=a:b", "path or factory must be given, and not both"),
        ("data.arguments={a: 1}", "arguments applies to factory"),
    ):
        with pytest.raises(StudyError) as refused:
            load_study(path, [override])
        assert message in str(refused.value)
    study = make_plan(load_study(path, ["data.num_held_out=290"]))
    assert "must leave points for training" in str(inspect(study).conflicts)
    study = make_plan(load_study(path, ["data.label=null"]))
    assert "set data.label" in str(inspect(study).conflicts)
    study = make_plan(load_study(path, ["data.path=absent.csv"]))
    assert inspect(study).missing


@pytest.mark.long
def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/how_to/points.md, in their order."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/how_to/points.md").read_text("utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    exec(compile(blocks["python"], "points.md", "exec"), {})
    (tmp_path / "moons.yaml").write_text(blocks["yaml"])
    assert blocks["sh"].split() == ["dgray", "run", "moons.yaml", "--engine", "local"]
    trials = make_plan(load_study(tmp_path / "moons.yaml")).trials
    rows = [
        r for t in trials for c in run_trial(t, build_artifacts(trials, Memory())) for r in c.rows
    ]
    assert len(rows) == 2 + 2 * 2 * 4
    assert all(row.status == "ok" and np.isfinite(row["fd"]) for row in rows)

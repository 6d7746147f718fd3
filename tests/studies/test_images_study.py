"""Test the plan of the study of images, and run a reduced form of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.data.glyphs import FACES
from dgray.plan.cost import estimate
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder

STUDY = Path(__file__).parents[2] / "studies" / "images.yaml"
LIMIT = 90 * 60  # seconds on two cores

REDUCED = (
    "replicates=2",
    "diffusion={sigma_min: 0.2, sigma_max: 20}",  # fewer evaluations for a likelihood
    "data={kind: glyphs, num_real: 40, num_validation: 30, num_held_out: 60}",
    "base.width=4",
    "base.num_real=200",
    "base.steps=30",
    "base.batch_size=32",
    "base.generation_steps=3",
    "base.num_generated=40",
    "discriminator.width=4",
    "fit.batch_size=20",
    "budget.train_flops=1e9",
    "evaluate.num_steps=3",
    "evaluate.num_samples=60",
    "evaluate.num_noised=20",
    "evaluate.guidance_weight=[1]",
    "evaluate.num_points=2",
    "evaluate.num_probes=1",
    "evaluate.tolerance=1000",
)


def test_the_plan_keeps_its_time_limit() -> None:
    plan = make_plan(load_study(STUDY))
    names = {trial.objective for trial in plan.trials}
    assert names == {"base", "cross_entropy", "kl", "fine_tune"}
    assert estimate(plan, cpus=2).wall_seconds <= LIMIT


@pytest.mark.long
def test_a_reduced_form_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Letters of two faces instead of twelve: the network of the features trains in seconds.
    monkeypatch.setattr("dgray.data.glyphs.FACES", FACES[:2])
    out = tmp_path / "run"
    command = [str(STUDY), "--out", str(out), "--engine", "local", "--set", *REDUCED]
    assert main(command) == 0
    rows = RunFolder(out).rows()
    corrected = rows[rows["objective"] != "base"]
    assert len(rows) == 1 + 3 * 2
    assert set(rows["status"]) == {"ok"}
    assert set(rows["features"]) == {"fd_cnn"}
    assert set(corrected["correction"]) == {"guidance", "fine_tune"}
    for column in ("fd", "fd_se", "nll", "kl_change", "path_kl_change", "train_flops"):
        assert np.isfinite(corrected[column].astype(float)).all(), column
    per_trial = corrected.groupby("trial")["train_flops"].first()
    assert (per_trial <= 1e9).all()
    assert corrected["fd"].nunique() > 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "and the Fréchet distance" in page  # the statement on their agreement

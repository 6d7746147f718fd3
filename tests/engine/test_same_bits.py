"""Real trials give the same bits in this process, on one worker and on two."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dgray.config.reading.load import load_study
from dgray.engine import local
from dgray.plan.plan import make_plan
from dgray.problem.shared import build_artifacts
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule

STUDY = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}
discriminator: {width: 32, depth: 2}
fit: {objective: [cross_entropy, kl, oracle], epochs: 6, checkpoints: [2, 6], batch_size: 64}
evaluate:
  guidance_weight: [1.0, calibrated]
  sampler: [ode, sde]
  num_steps: 4
  metrics: [kl, path_kl, kl_sde, kl_sampler, memorisation]
  num_points: 10
  num_samples: 20
  num_bins: 4
  max_steps: 40
  tolerance: 0.3
"""


def rows(folder: RunFolder) -> pd.DataFrame:
    table = folder.rows()[column_names("identity", "metric")]
    keys = ["trial", "replicate", "epoch", "sampler", "is_calibrated"]
    return table.sort_values(keys).reset_index(drop=True)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_running")
def test_local_one_worker_and_two_give_the_same_bits(tmp_path: Path) -> None:
    from dgray.engine import tune

    study = tmp_path / "tiny.yaml"
    study.write_text(STUDY)
    trials = make_plan(load_study(study)).trials
    artifacts = build_artifacts(trials, RunFolder(tmp_path / "artifacts"))
    tables = {}
    for name, run, max_trials in (
        ("local", local.run, 1),
        ("one", tune.run, 1),
        ("two", tune.run, 2),
    ):
        plan = make_plan(load_study(study, [f"resources.max_concurrent_trials={max_trials}"]))
        folder = RunFolder(tmp_path / name)
        run(
            GridSchedule(plan.trials, folder),
            folder,
            lambda workers: artifacts,
            lambda event: None,
        )
        assert folder.missing_rows(plan.trials) == 0, folder.rows().reason.unique()
        tables[name] = rows(folder)
    assert tables["local"].path_kl.nunique() > 10
    pd.testing.assert_frame_equal(tables["one"], tables["local"], check_exact=True)
    pd.testing.assert_frame_equal(tables["two"], tables["local"], check_exact=True)

"""Event files of searches: hyperparameters are the points, metrics their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dgray.cli.live_tensorboard import LiveTensorBoard
from dgray.engine.events import CheckpointDone, EngineStarted
from dgray.plan.plan import Plan, make_plan
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import build_report
from dgray.search.build import build_schedule
from tests.reporting.event_files import columns, hparams, read
from tests.search.analytic import finish, load, run_search

SEARCHED = ("discriminator.width", "discriminator.depth", "fit.learning_rate", "fit.ema_decay")
OVERRIDES = (
    "fit.objective=[cross_entropy, kl]",
    "fit.ema_decay={choice: [0, 0.9]}",
    "search.metrics={path_kl_change: minimize, num_parameters: minimize}",
    "search.num_trials=5",
)


def run_of(folder: Path, trial: str) -> Path:
    (run,) = folder.glob(f"*({trial.rsplit('-', 1)[-1]})")
    return run


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two searches; read only."""
    folder = tmp_path_factory.mktemp("searched")
    run_search(make_plan(load(folder, *OVERRIDES)), RunFolder(folder / "run"))
    with pytest.MonkeyPatch.context() as patch:  # no figure is looked at here
        patch.setattr("dgray.reporting.build.render_figures", lambda *inputs: iter(()))
        patch.setattr("dgray.reporting.build.render_search_figures", lambda *inputs: iter(()))
        build_report(folder / "run")
    return folder / "run"


def test_hparams_are_the_point_and_metrics_are_those_of_the_search(searched: Path) -> None:
    points = pd.read_parquet(searched / "search.parquet")
    assert len(points) == 10
    for _, point in points.iterrows():
        folder = run_of(searched / "tensorboard", point["trial"])
        assert hparams(folder) == {
            "objective": point["search"],
            **{name: float(point[name]) for name in SEARCHED},
        }
        events = read(folder)
        for metric in ("path_kl_change", "num_parameters"):
            for split, column in (
                ("validation", f"validation:{metric}"),
                ("held-out", metric),
            ):
                (scalar,) = events.Scalars(f"search/{metric} ({split})")
                assert scalar.value == np.float32(point[column])
                assert scalar.step == point["epoch"]


def test_drawn_fields_are_intervals_and_search_values_are_metrics(searched: Path) -> None:
    domains, tags = columns(searched / "tensorboard")
    assert domains["discriminator.width"] == (8, 64)
    assert domains["fit.learning_rate"] == (1e-4, 1e-2)
    assert set(domains["fit.ema_decay"]) <= {0, 0.9}
    assert set(domains["objective"]) == {"base", "cross_entropy", "kl"}
    assert {"search/path_kl_change (validation)", "search/path_kl_change (held-out)"} <= set(tags)


def follow(plan: Plan, folder: RunFolder, *, points: int) -> LiveTensorBoard:
    """Run a session of some points with live event files."""
    schedule = build_schedule(plan, folder)
    domains = plan.study.domains.values()
    with LiveTensorBoard(plan, folder, examples=schedule.examples, domains=domains) as live:
        live.observe(EngineStarted(engine="local", where="here", num_workers=1))
        while points and (trial := schedule.next()) is not None:
            finish(folder, trial)
            for epoch in trial.epochs:
                live.observe(
                    CheckpointDone(trial_id=trial.id, epoch=epoch, rows_done=1, best=None)
                )
            schedule.report_end(trial.id, None)
            points -= trial.is_trained
    return live


def test_tab_has_every_searched_field_during_a_run_and_after_resuming(tmp_path: Path) -> None:
    plan = make_plan(load(tmp_path, *OVERRIDES))
    folder = RunFolder(tmp_path / "run")
    for session in (1, 2):  # in the second the plan's own trials are done
        live = follow(plan, folder, points=2)
        assert live.failure is None
        domains, _ = columns(folder.path / "tensorboard")
        assert set(domains) == {"objective", *SEARCHED}
        assert domains["fit.learning_rate"] == (1e-4, 1e-2)
        assert domains["fit.ema_decay"] == [0, 0.9]
        assert {"cross_entropy", "kl"} <= set(domains["objective"])
        runs = [p for p in (folder.path / "tensorboard").iterdir() if p.is_dir()]
        assert len([p for p in runs if "width" in p.name]) == 2 * session

"""The result cache across studies: what is copied and how it is marked, and what is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import dgray.cli.session
import dgray.engine.result_cache
import dgray.trial.run
from dgray.cli.study import main
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder

STUDY = """\
name: {name}
replicates: 2
data: {{kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}}
base: {{kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}}
discriminator: {{width: {width}, depth: 2}}
fit: {{objective: [kl, oracle], epochs: 4, checkpoints: [2, 4], batch_size: 64}}
evaluate: {{guidance_weight: [1.0], metrics: [path_kl], num_points: 20, num_samples: 20,
  num_bins: 4}}
"""
KEYS = ["trial", "replicate", "epoch", "guidance_weight"]


def run(folder: Path, name: str, *overrides: str, width: str = "8", cache: bool = True) -> int:
    (folder / f"{name}.yaml").write_text(STUDY.format(name=name, width=width))
    values = [*overrides, *([f"resources.result_cache={folder / 'cache'}"] if cache else [])]
    command = [str(folder / f"{name}.yaml"), "--engine", "local", "--out", str(folder / name)]
    return main([*command, "--no-report", *(["--set", *values] if values else [])])


def rows(folder: Path, name: str) -> pd.DataFrame:
    return RunFolder(folder / name).rows().sort_values(KEYS).reset_index(drop=True)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Objectives of the trials that were computed."""
    objectives: list[str] = []
    real = dgray.trial.run.run_trial

    def counted(trial, artifacts, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
        objectives.append(trial.objective)
        return real(trial, artifacts, **kwargs)

    monkeypatch.setattr(dgray.trial.run, "run_trial", counted)
    return objectives


def test_another_study_copies_computed_trials_and_reports_it(
    tmp_path: Path, computed: list[str]
) -> None:
    assert run(tmp_path, "first") == 0
    assert sorted(computed) == ["base", "kl", "oracle"]
    computed.clear()
    assert run(tmp_path, "second", width="[8, 16]") == 0
    assert computed == ["kl"]  # width 16 alone
    first, second = rows(tmp_path, "first"), rows(tmp_path, "second")
    shared = second[second["trial"].isin(first["trial"])].reset_index(drop=True)
    names = [name for name in column_names("identity", "metric") if name not in ("label", "axes")]
    pd.testing.assert_frame_equal(first[names], shared[names])
    assert shared["copied_from"].str.startswith(str(tmp_path / "first")).all()
    assert first["copied_from"].isna().all()
    assert second.loc[~second["trial"].isin(first["trial"]), "copied_from"].isna().all()
    assert set(shared["label"]) == {"base", "oracle", "kl, width 8"}


def test_it_is_off_unless_asked_for(tmp_path: Path, computed: list[str]) -> None:
    assert run(tmp_path, "first", cache=False) == 0
    assert run(tmp_path, "second", cache=False) == 0
    assert sorted(computed) == ["base", "base", "kl", "kl", "oracle", "oracle"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "override", ["seed=1", "fit.learning_rate=2e-3", "data.num_held_out=65", "replicates=3"]
)
def test_a_different_trial_is_computed(tmp_path: Path, computed: list[str], override: str) -> None:
    assert run(tmp_path, "first") == 0
    computed.clear()
    assert run(tmp_path, "second", override) == 0
    assert "kl" in computed


def test_results_of_other_code_are_not_used(
    tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, "first") == 0
    computed.clear()
    monkeypatch.setattr(dgray.engine.result_cache, "_code", lambda: ["another version"])
    assert run(tmp_path, "second") == 0
    assert sorted(computed) == ["base", "kl", "oracle"]


def test_a_partly_cached_trial_is_resumed(tmp_path: Path, computed: list[str]) -> None:
    assert run(tmp_path, "first") == 0
    for part in (tmp_path / "cache").rglob("rows/kl-*-000004.parquet"):
        part.unlink()
    computed.clear()
    assert run(tmp_path, "second") == 0
    assert computed == ["kl"]
    first, second = rows(tmp_path, "first"), rows(tmp_path, "second")
    names = column_names("identity", "metric")
    pd.testing.assert_frame_equal(first[names], second[names])
    trained = second[second["objective"] == "kl"]
    assert (trained["copied_from"].isna() == (trained["epoch"] == 4)).all()

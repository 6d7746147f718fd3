"""The Python interface: the same study, rows and models as those of the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dgray
from dgray.cli.main import main
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.errors import (
    DgrayError,
    FigureError,
    GuidedModelError,
    NoSuchModelError,
    NotARunError,
    RunRefusedError,
    StudyError,
)
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import read_table, source_of
from dgray.reporting.text.finding import find

ROOT = Path(__file__).parents[2]
STUDY = {
    "name": "api",
    "replicates": 2,
    "data": {"kind": "mixture", "name": "ring8", "num_real": 40, "num_held_out": 60},
    "base": {"kind": "wrong_mixture"},
    "discriminator": {"width": [4, 8]},
    "fit": {"objective": ["kl", "cross_entropy"], "checkpoints": [2, 4]},
    "evaluate": {
        "guidance_weight": [1.0, "calibrated"],
        "num_points": 20,
        "num_samples": 64,
        "num_steps": 6,
        "sampler": "ode",
        "tolerance": 0.3,
    },
}


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """Leave out the figures of reports, which cost most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgray.reporting.build.render_figures", lambda *inputs: iter(()))
        yield


@pytest.fixture(scope="module")
def run(no_figures: None, tmp_path_factory: pytest.TempPathFactory) -> dgray.Run:
    study = dgray.load_study(STUDY, {"evaluate.num_bins": 3})
    return study.run(tmp_path_factory.mktemp("api") / "run", engine="local", progress=False)


def test_importing_dgray_imports_no_library() -> None:
    code = "import sys, dgray; print(*(set(sys.modules) & {'torch', 'pandas', 'ray', 'rich'}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_mapping_is_the_study_of_the_same_file(tmp_path: Path) -> None:
    study = dgray.load_study(STUDY, ["evaluate.num_bins=3"])
    (tmp_path / "study.yaml").write_text(study.to_yaml())
    again = dgray.load_study(tmp_path / "study.yaml")
    assert again.config == study.config
    assert study.config["evaluate"]["num_bins"] == 3
    assert study.plan().trials == again.plan().trials
    assert repr(study) == "<dgray.Study api: 5 trials, 33 rows>"
    assert "networks trained" in str(study.plan())
    assert "<pre" in study._repr_html_()
    with pytest.raises(StudyError, match=r"fit\.epoch"):
        dgray.load_study(STUDY, {"fit.epoch": 3})


def test_a_study_resumes_inside_a_running_event_loop_with_the_same_rows(run: dgray.Run) -> None:
    async def cell() -> dgray.Run:
        study = dgray.load_study(STUDY, {"evaluate.num_bins": 3})
        return study.run(str(run.place), engine="local", progress=False)

    for part in Path(str(run.place), "rows").glob("kl-*"):
        part.unlink()
    again = asyncio.run(cell())
    compared = [name for name in run.rows() if name not in column_names("provenance")]
    pd.testing.assert_frame_equal(again.rows()[compared], run.rows()[compared], check_exact=True)


def test_rows_of_calibrated_weights_survive_a_groupby(run: dgray.Run) -> None:
    rows = run.rows()
    sizes = rows.groupby("weight").size()
    assert sizes.to_dict() == {"0": 1, "1": 16, "calibrated": 16}
    assert len(rows) == sizes.sum()
    assert set(run.columns) == set(rows.columns)
    assert run.is_complete
    assert run.axes == ("discriminator.width", "fit.objective")
    assert len(run.trials) == 5


def test_a_trial_is_selected_by_its_id_its_beginning_or_its_label(run: dgray.Run) -> None:
    trial = run.trials.iloc[-1]
    for name in (trial["trial"], trial["trial"][:-2], trial["label"]):
        assert set(run.trial(name)["trial"]) == {trial["trial"]}
    with pytest.raises(NoSuchModelError, match=r"'kl' matches 2: kl "):
        run.trial("kl")


def test_the_best_model_minimises_its_criterion(run: dgray.Run) -> None:
    means = run.means()
    guided = means[means["objective"] != "base"]
    best = run.best()
    assert best.row["validation_change"] == guided["validation_change"].min()
    of_kl = run.best(objective="kl", metric="path_kl")
    values = guided[guided["objective"] == "kl"]["path_kl"]
    assert of_kl.row["path_kl"] == values.min()
    assert of_kl.label.startswith("kl")
    assert run.best(trial=of_kl.trial).trial == of_kl.trial
    of_change = run.best(metric="path_kl_change")
    assert of_change.row["path_kl_change"] == guided["path_kl_change"].min()
    with pytest.raises(NoSuchModelError, match="no corrected model has the objective 'base'"):
        run.best(objective="base")
    with pytest.raises(NoSuchModelError, match="metric must be a score of this run, but got 'f'"):
        run.best(metric="f")
    with pytest.raises(NoSuchModelError, match="no corrected model has the objective 'f'; there"):
        run.best(objective="f")
    with pytest.raises(NoSuchModelError, match="weight must be a number >= 0, but got nan"):
        of_kl.denoiser(weight=float("nan"))


def test_the_denoiser_in_a_loop_of_ones_own_gives_dgrays_samples(run: dgray.Run) -> None:
    model = run.best(objective="kl")
    settings = run._contents.table.rows.iloc[0]
    config = dgray.load_study(STUDY).config["diffusion"]
    sigmas = karras_sigmas(6, config["sigma_min"], config["sigma_max"])
    denoise = model.denoiser(replicate=1)
    start = config["sigma_max"] * seeded_noise(0, range(3, 8), (1, 2))[:, 0]
    ours = heun(denoise, start, sigmas)
    torch.testing.assert_close(ours.float(), model.sample(5, seeds=3, replicate=1))
    assert settings["num_steps"] == 6


def test_weight_0_is_the_base_and_weight_1_adds_the_gradient(run: dgray.Run) -> None:
    x, sigma = torch.randn(7, 2, dtype=torch.float64), torch.full((7,), 0.7, dtype=torch.float64)
    unguided = run.denoiser(objective="kl", weight=0.0)
    base = unguided.base(x, sigma)
    torch.testing.assert_close(unguided(x, 0.7), base)
    gradient = run.discriminator(objective="kl").gradient(x, sigma)
    guided = run.denoiser(objective="kl", weight=1.0)(x, sigma)
    torch.testing.assert_close(guided, base + 0.7**2 * gradient)


def test_an_exported_model_needs_no_run(run: dgray.Run, tmp_path: Path) -> None:
    model = run.best(objective="kl", metric="path_kl")
    folder = model.export(tmp_path / "best", replicate=1)
    exported = dgray.load_exported(folder)
    seeds = [4, 0, 9]
    expected = model.sample(3, seeds=seeds, replicate=1)
    assert torch.equal(exported.sample(3, seeds=seeds), expected)
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(exported(x, 0.7), model.denoiser(replicate=1)(x, 0.7))
    place = str(run.place)
    assert main(["export", place, model.label, str(tmp_path / "cli"), "--replicate", "1"]) == 0
    assert isinstance(dgray.load_exported(tmp_path / "cli"), dgray.GuidedDenoiser)
    assert main(["export", place, "best", str(folder)]) == 2  # it is not empty
    assert main(["export", place, "base", str(tmp_path / "base")]) == 2  # it has no weights
    record = json.loads((folder / "guidance.json").read_text())
    record["base"] = {"kind": "custom", "factory": "os:getcwd", "arguments": {}}
    (folder / "guidance.json").write_text(json.dumps(record))
    with pytest.raises(GuidedModelError, match=r"'os:getcwd' of dgray\.bases; read it"):
        dgray.load_exported(folder)


def test_samples_beyond_the_highest_noise_level_are_those_of_the_exported_model(
    tmp_path: Path,
) -> None:
    study = dgray.load_study(
        STUDY,
        {
            "discriminator.width": 4,
            "fit.objective": "kl",
            "evaluate.sampler": "churn",
            "evaluate.churn": {"S_max": float("inf")},
            "evaluate.metrics": ["kl_sde"],
        },
    )
    run = study.run(tmp_path / "run", engine="local", progress=False, report=False)
    model = run.best()
    expected = model.sample(5, weight=2.0)
    folder = model.export(tmp_path / "out", weight=2.0)
    assert torch.equal(dgray.load_exported(folder).sample(5), expected)
    assert torch.equal(model.denoiser(weight=2.0).sample(5), expected)
    base = model.sample(5, weight=0.0)
    assert (expected != base).any()
    # Of one step from beyond the highest level, the base is all that acts.
    beyond, x = 1.2 * model.denoiser().space.sigmas[1], torch.randn(3, 2)
    assert torch.equal(model.denoiser()(x, beyond), model.denoiser(weight=0.0)(x, beyond))


def test_summary_finding_and_figures_are_those_of_the_report(run: dgray.Run) -> None:
    folder = RunFolder(Path(str(run.place)))
    finding = find(read_table(folder.path), source_of(folder).question)
    assert run.finding == "\n".join(statement.text for statement in finding.statements)
    summary = run.summary()
    assert list(summary.index) == [row.name for row in finding.summary]
    base = finding.summary[0].estimates["path_kl"]
    assert np.allclose(
        summary.iloc[0][["path_kl", "path_kl_se"]].astype(float), [base.value, base.error]
    )
    assert run.figure("finding").axes
    assert {"finding", "losses"} <= set(run.figure_names)
    with pytest.raises(FigureError, match="no figure 'f'; there are finding"):
        run.figure("f")
    assert "best KL objective" in str(run)
    assert "best KL objective" in run._repr_html_()


@pytest.mark.parametrize("value", [3, b"kl", ["kl"], object()])
def test_names_are_text_and_places_in_a_run_are_integers(run: dgray.Run, value: Any) -> None:
    model = run.best(objective="kl")
    calls: list[tuple[Any, str]] = [
        (lambda v: run.trial(v), "trial must be text, but got"),
        (lambda v: run.best(trial=v), "trial must be text, but got"),
        (lambda v: run.best(objective=v), "objective must be text, but got"),
        (lambda v: run.best(metric=v), "metric must be a score of this run, but got"),
        (lambda v: run.figure(v), "must be text, but got"),
        (lambda v: run.figure(where=v if isinstance(v, int) else [v, 3]), "must be text"),
        (lambda v: run.figure(font=v), "must be text, but got"),
        (lambda v: run.figure(font_size=[v]), "the font size must be 4 to 24 points, but is"),
        (lambda v: model.sample(2, device=[v]), "device must be one of this machine, but got"),
        (lambda v: model.sample(2, weight=[v]), "weight must be a number, but got"),
        (lambda v: model.sample([v]), "n must be an integer, but got"),
        (lambda v: model.denoiser(replicate=[v]), "replicate must be an integer, but got"),
        (
            lambda v: model.discriminator(replicate=0.5),
            "replicate must be an integer, but got 0.5",
        ),
    ]
    for call, message in calls:
        with pytest.raises(DgrayError, match=message):
            call(value)


def test_a_comparison_needs_two_runs(run: dgray.Run) -> None:
    for one in (run, str(run.place), Path(str(run.place)), [run]):
        with pytest.raises(RunRefusedError, match="two"):
            dgray.compare(one)  # type: ignore[arg-type]


def test_what_is_no_run_is_refused(run: dgray.Run, tmp_path: Path) -> None:
    with pytest.raises(NotARunError):
        dgray.open_run(tmp_path)
    with pytest.raises(RunRefusedError, match="engine must be 'ray' or 'local', but got 'dask'"):
        dgray.load_study(STUDY).run(tmp_path, engine="dask")  # type: ignore[arg-type]
    with pytest.raises(RunRefusedError, match="this one differs in seed: 0 there, 1 here"):
        dgray.load_study(STUDY, {"seed": 1, "evaluate.num_bins": 3}).run(
            str(run.place), engine="local"
        )

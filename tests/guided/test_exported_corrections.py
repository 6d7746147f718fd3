"""Every correction of a run as a denoiser, as an exported folder, and as dgray's own samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import dgray
from dgray.api.model import Model
from dgray.catalogue import CORRECTIONS
from dgray.cli.main import main
from dgray.errors import GuidedModelError, NoSuchModelError

STUDY = {
    "name": "tiny",
    "replicates": 2,
    "diffusion": {"sigma_min": 0.02, "sigma_max": 10},
    "data": {
        "kind": "mixture",
        "name": "ring8",
        "num_real": 30,
        "num_validation": 60,
        "num_held_out": 60,
    },
    "base": {
        "kind": "trained",
        "width": 6,
        "depth": 1,
        "steps": 10,
        "num_real": 30,
        "num_generated": 30,
        "generation_steps": 4,
    },
    "discriminator": {"width": 6, "depth": 1},
    "fit": {"epochs": 30, "learning_rate": 0.01, "batch_size": 15},
    "evaluate": {
        "guidance_weight": [1.0, "calibrated"],
        "guidance_interval": [None, [0.1, 3]],
        "sampler": ["restart"],
        "num_steps": 4,
        "num_samples": 10,
        "metrics": ["path_kl"],
        "num_noised": 60,
    },
}
SHORT = ("guidance", "fine_tune", "neon", "rejection")
LONG = tuple(spec.name for spec in CORRECTIONS if spec.name not in SHORT)
DENOISERS = [
    pytest.param(spec.name, marks=[] if spec.name in SHORT else pytest.mark.long)
    for spec in CORRECTIONS
    if not spec.is_sampler
]
SELECTIONS = ["rejection", pytest.param("metropolis", marks=pytest.mark.long)]
Models = Callable[[str], Model]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Function that returns the best model of a correction, from one of two runs."""

    @cache
    def run(kinds: tuple[str, ...]) -> dgray.Run:
        study = dgray.load_study(STUDY | {"correction": {"kind": list(kinds), "moves": 2}})
        place = tmp_path_factory.mktemp("corrections") / "run"
        return study.run(place, engine="local", progress=False, report=False)

    def model(correction: str) -> Model:
        trial = {"guidance": "cross_entropy"}.get(correction, correction)
        if correction in ("rejection", "metropolis"):
            trial += "-cross_entropy"
        return run(SHORT if correction in SHORT else LONG).best(trial=trial)

    return model


@pytest.mark.parametrize("correction", DENOISERS)
@pytest.mark.parametrize("weight", [pytest.param(0.7, marks=pytest.mark.long), "calibrated"])
def test_denoiser_export_and_samples_of_a_run_are_the_same(
    correction: str, weight: float | str, best: Models, tmp_path: Path
) -> None:
    model = best(correction)
    expected = model.sample(4, seeds=3, replicate=1, weight=weight)
    denoiser = model.denoiser(replicate=1, weight=weight)
    torch.testing.assert_close(denoiser.sample(4, seeds=3), expected, rtol=0, atol=0)
    exported = dgray.load_exported(denoiser.save(tmp_path / "out"))
    again = dgray.load_exported(exported.save(tmp_path / "again"))
    torch.testing.assert_close(again.sample(4, seeds=3), expected, rtol=0, atol=0)
    x, sigma = torch.randn(5, 2), torch.tensor([0.01, 0.05, 0.5, 2.0, 50.0])
    for loaded in (exported, again):
        torch.testing.assert_close(loaded(x, sigma), denoiser(x, sigma), rtol=0, atol=0)
    change = (denoiser(x, sigma) != denoiser.with_weight(0)(x, sigma)).any(1)
    assert not change[[0, -1]].any()  # outside the noise range
    if weight == 0.7 or correction in ("fine_tune", "neon"):  # of others it is 0 here
        assert change[1:-1].any()


@pytest.mark.parametrize("correction", DENOISERS)
def test_the_weight_is_that_of_the_correction(correction: str, best: Models) -> None:
    denoiser = best(correction).denoiser(weight=1)
    x, sigma = torch.randn(5, 2).double(), 0.5
    base, once, twice = (denoiser.with_weight(w)(x, sigma) for w in (0, 1, 2))
    assert (once != base).any()
    if correction != "neon":  # linear in its weight
        torch.testing.assert_close(twice - base, 2 * (once - base))
    points = torch.randn(20, 2)
    assert denoiser.with_weight(0.7).path_kl_change(points, num_levels=2).se > 0
    assert denoiser.with_weight(0).path_kl_change(points).value == 0


@pytest.mark.parametrize("correction", SELECTIONS)
def test_selections_have_samples_and_a_discriminator_but_no_denoiser(
    correction: str, best: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = best(correction)
    for refused in (model.denoiser, lambda: model.export(tmp_path / "out")):
        with pytest.raises(GuidedModelError, match=f"^{correction} selects .* run.sample"):
            refused()
    assert main(["export", str(model.run.place), model.label, str(tmp_path / "out")]) == 2
    assert "dgray sample" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    rows = model.run.trial(model.trial)  # a selection acts at sigma_min, so not in the interval
    assert (rows["status"] == "ok").all()
    inside = rows[rows["interval_low"] == 0.1]
    assert (inside[["path_kl_change", "validation_change"]] == 0).all(axis=None)
    assert model.sample(3, weight="calibrated").shape == (3, 2)
    assert model.discriminator(replicate=1).logit(torch.randn(3, 2), 0.5).shape == (3,)


def test_what_a_model_lacks_is_refused(best: Models) -> None:
    with pytest.raises(GuidedModelError, match="fine_tune has no discriminator"):
        best("fine_tune").discriminator()
    with pytest.raises(NoSuchModelError, match="a number or 'calibrated', but got 'best'"):
        best("fine_tune").denoiser(weight="best")


@pytest.mark.long
def test_a_damaged_export_of_a_correction_is_refused(best: Models, tmp_path: Path) -> None:
    folder = best("autoguidance").export(tmp_path / "out")
    record = json.loads((folder / "guidance.json").read_text())
    record["correction"]["arguments"]["network"]["width"] = 10**6
    (folder / "guidance.json").write_text(json.dumps(record))
    with pytest.raises(GuidedModelError, match="must have more than the"):
        dgray.load_exported(folder)
    weights = folder / "correction.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(GuidedModelError, match="has changed since it was exported"):
        dgray.load_exported(folder)

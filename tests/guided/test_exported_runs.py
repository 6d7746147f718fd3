"""Exported models of runs on images: a network of dgray, and one of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import dgray
from dgray.errors import GuidedModelError
from tests.guided.test_diffusers_pipeline import Pipeline, generate, network, scheduler

IMAGES = {
    "name": "images",
    "replicates": 1,
    "data": {
        "kind": "digits",
        "num_real": 20,
        "num_validation": 20,
        "num_held_out": 20,
    },
    "diffusion": {"sigma_min": 0.11, "sigma_max": 6.0},
    "discriminator": {"kind": "conv", "width": 2},
    "fit": {"objective": "kl", "epochs": 2, "learning_rate": 0.02},
    "evaluate": {
        "guidance_weight": 1.0,
        "guidance_interval": [None, [0.2, 3.0]],
        "sampler": ["ode", "churn"],
        "num_samples": 8,
        "num_steps": 4,
        "metrics": ["path_kl"],
    },
}


def run_of(tmp_path: Path, **sections: Any) -> dgray.Run:
    study = dgray.load_study(IMAGES | sections)
    return study.run(tmp_path / "run", engine="local", progress=False, report=False)


@pytest.mark.long
def test_a_conditional_network_of_dgray_is_stored_with_its_weights(tmp_path: Path) -> None:
    unet = {"kind": "trained", "network": "unet", "width": 4, "depth": 1, "steps": 3}
    run = run_of(
        tmp_path,
        base=unet | {"batch_size": 4, "num_generated": 0, "num_real": 20, "conditional": True},
        discriminator={"kind": "conv", "width": 2, "trunk": "base"},
        evaluate=IMAGES["evaluate"] | {"guided_stage": ["both", "predictor"]},  # type: ignore[operator]
    )
    model = run.best()
    exported = dgray.load_exported(run.export(tmp_path / "out"))
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    samples = exported.sample(4)
    expected = dgray.open_run(tmp_path / "elsewhere").sample(4, trial=model.trial)
    in_bytes = ((samples.movedim(1, -1) + 1) * 127.5).round().clamp(0, 255)
    torch.testing.assert_close(in_bytes, expected.float(), rtol=0, atol=1.0)


@pytest.mark.long
def test_corrections_by_networks_of_classes_are_stored(tmp_path: Path) -> None:
    unet = {"kind": "trained", "network": "unet", "width": 4, "depth": 1, "steps": 3}
    run = run_of(
        tmp_path,
        base=unet | {"batch_size": 4, "num_generated": 20, "num_real": 20, "conditional": True},
        correction={"kind": ["residual", "fine_tune", "neon"]},
        discriminator={"kind": "conv", "width": 4},
        evaluate=IMAGES["evaluate"] | {"sampler": "ode", "guidance_interval": [None]},  # type: ignore[operator]
    )
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 3, 9])
    for trial in ("residual", "fine_tune", "neon"):
        model = run.best(trial=trial)
        exported = dgray.load_exported(model.export(tmp_path / trial, weight=0.8))
        in_bytes = ((exported.sample(4).movedim(1, -1) + 1) * 127.5).round().clamp(0, 255)
        expected = model.sample(4, weight=0.8).float()
        torch.testing.assert_close(in_bytes, expected, rtol=0, atol=1.0)
        corrected, base = (exported.with_weight(w)(x, 0.7, labels) for w in (0.8, 0))
        torch.testing.assert_close(corrected, model.denoiser(weight=0.8)(x, 0.7, labels))
        assert (corrected != base).any()


@pytest.mark.long
@pytest.mark.parametrize("correction", ["guidance", "residual"])
def test_a_base_of_diffusers_is_referred_to_and_becomes_a_pipeline(
    correction: str, tmp_path: Path
) -> None:
    unet, schedule = network(), scheduler("DDPMScheduler")
    unet.save_pretrained(tmp_path / "model" / "unet")
    schedule.save_pretrained(tmp_path / "model" / "scheduler")
    base = {"kind": "diffusers", "path": str(tmp_path / "model"), "num_generated": 0}
    network_of_4 = {"kind": "conv", "width": 4}
    run = run_of(tmp_path, base=base, correction={"kind": correction}, discriminator=network_of_4)
    folder = run.export(tmp_path / "out", weight=1.0)
    assert not (folder / "base.safetensors").exists()
    exported = dgray.load_exported(folder)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(exported(x, 0.7), run.denoiser(weight=1.0)(x, 0.7))
    pipeline = Pipeline.from_exported(folder)
    own = Pipeline(unet, schedule, exported)
    torch.testing.assert_close(generate(pipeline), generate(own))
    assert (generate(pipeline) != generate(pipeline, guidance_weight=0.0)).any()
    weights = next((tmp_path / "model" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(GuidedModelError, match="has changed since the model was exported"):
        dgray.load_exported(folder)
    weights.unlink()
    with pytest.raises(GuidedModelError, match="which is not here; load the model with denoiser"):
        dgray.load_exported(folder)
    denoiser = dgray.diffusers_denoiser(unet, schedule)
    assert dgray.load_exported(folder, denoiser=denoiser)(x, 0.7).shape == x.shape


@pytest.mark.long
def test_another_weight_of_predictor_guidance_is_that_of_the_run(tmp_path: Path) -> None:
    study = dgray.load_study(
        {
            "name": "points",
            "replicates": 1,
            "data": {"kind": "mixture", "name": "ring8", "num_real": 40, "num_validation": 20},
            "base": {"kind": "wrong_mixture", "std_scale": 1.3},
            "discriminator": {"width": 4, "depth": 1},
            "fit": {"epochs": 1, "batch_size": 20},
            "evaluate": {
                "guidance_weight": 2.0,
                "guidance_interval": [[0.2, 3.0]],
                "guided_stage": "predictor",
                "metrics": ["path_kl"],
            },
        }
    )
    run = study.run(tmp_path / "run", engine="local", progress=False, report=False)
    model = run.best()
    denoiser, expected = model.denoiser(), model.denoiser(weight=0.8)
    assert denoiser.with_weight(0.8).weight == expected.weight
    exported = dgray.load_exported(denoiser.with_weight(0.8).save(tmp_path / "out"))
    assert exported.weight == exported.with_weight(0.8).weight == expected.weight

"""The code blocks of docs/python.md run, and their numbers are those of closed forms."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dgray
from dgray.diffusion.mixture import GaussianMixture
from tests.guided.test_diffusers_pipeline import network, scheduler

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "python.md").read_text("utf-8")
INTERFACE, POINTS, IMAGES, OBJECTS, EXPORT, PIPELINE, LOOPS = re.findall(
    r"^```python\n(.*?)^```", TEXT, re.M | re.S
)
MAX_STATEMENTS = 25


def normal(mean: float, std: float) -> GaussianMixture:
    ones = torch.ones(1, 2, dtype=torch.float64)
    return GaussianMixture(means=mean * ones, stds=std * ones, weights=ones[:, 0])


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(100, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)


def denoise_images(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + 4 * sigma[:, None, None, None] ** 2)


@pytest.mark.long
def test_the_interface_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    small = INTERFACE.replace('"replicates": 2', '"replicates": 1, "fit.checkpoints": [10]')
    values: dict[str, Any] = {}
    exec(small, values)
    samples = values["samples"]
    assert samples.shape == (16, 2)
    assert (tmp_path / "weight.pdf").stat().st_size > 1000
    exec(EXPORT, values)
    assert torch.equal(values["samples"], samples)


def test_points_without_a_study() -> None:
    data = normal(0.5, 1.0)
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        "denoiser": normal(0.0, 1.0),
        "real": data.sample(2000, generator).float(),
        "held_out": data.sample(500, generator),
    }
    exec(POINTS, values)
    assert len([line for line in POINTS.splitlines() if line]) <= MAX_STATEMENTS
    # KL(data || base) = |shift|^2 / 2 = 0.25 nats, nearly all of which the discriminator removes.
    change, nll, base = values["change"], values["nll"], values["base_nll"]
    assert abs(change.value + 0.25) < 4 * change.se + 0.03
    entropy = 2 * 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e)).item()
    assert abs(nll.value - entropy) < 4 * nll.se + 0.03
    assert abs(base.value - entropy - 0.25) < 4 * base.se
    assert values["distance"].value < 0.05 < 0.5  # of the base: |shift|^2 = 0.5


def test_images_without_a_study() -> None:
    values: dict[str, Any] = {
        "denoiser": denoise_images,
        "real": images(48, 0),
        "held_out": images(24, 1),
        "features": lambda x: x.float().flatten(1)[:, :4],
    }
    exec(IMAGES, values)
    assert len([line for line in IMAGES.splitlines() if line]) <= MAX_STATEMENTS
    assert values["samples"].shape == (32, 1, 8, 8)
    assert values["nll"].se > 0
    assert values["distance"].se > 0


@pytest.mark.long
def test_own_parts_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_study.py").write_text(OBJECTS)  # a script, whose source can be read
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_study  # type: ignore[import-not-found]

    assert my_study.run.is_complete
    assert set(my_study.run.rows()["objective"]) == {"base", "kl", "hinge"}
    del sys.modules["my_study"]


def test_a_pipeline_of_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {
        "unet": network(),
        "scheduler": scheduler("DDIMScheduler"),
        "real": images(16, 0),
    }
    exec(PIPELINE, values)
    assert len(values["images"]) == len(values["plain"]) == 2


def test_loops_of_other_packages() -> None:
    discriminator = dgray.fit_discriminator(
        images(16, 0), denoise_images, discriminator={"width": 2}, epochs=1
    )
    guided = dgray.guide(denoise_images, discriminator)
    values: dict[str, Any] = {"guided": guided, "torch": torch}
    exec(LOOPS, values)
    assert torch.isfinite(values["x"]).all()

"""A base whose network runs in bfloat16, compiled, or with the channels last."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dgray.base.networks.acceleration import AutocastDenoiser, accelerate
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.preconditioning import EDMPrecond, EncoderFeatures
from dgray.base.networks.unets.song import SongUNet
from dgray.config.reading.load import load_study
from dgray.config.reading.relevance import relevant_config
from dgray.config.study import StudyConfig
from dgray.diffusion.noise import global_seed
from dgray.discriminator.trunk import ModuleTrunk
from dgray.plan.shared_keys import base_key, generated_key, likelihood_key

IMAGE = (1, 8, 8)
PLAIN: dict[str, Any] = {"is_compiled": False, "is_channels_last": False, "precision": "float32"}
STUDY = """\
name: tiny
data: {kind: digits, num_real: 60, num_validation: 40, num_held_out: 40}
base: {kind: trained, num_real: 80, steps: 30}
"""


def network(*channels: int) -> NetworkDenoiser:
    with global_seed(0):
        raw = SongUNet(
            8, 1, 1, 3, model_channels=16, channel_mult=channels, num_blocks=1, dropout=0
        )
        for weight in raw.parameters():  # the last layers start near 0
            torch.nn.init.normal_(weight, std=0.1)
    module = EDMPrecond(raw, label_dim=3).eval().requires_grad_(False)
    return NetworkDenoiser(module, IMAGE, 3)


@pytest.fixture(scope="module")
def base() -> NetworkDenoiser:
    return network(1, 2)


@pytest.fixture(scope="module")
def noisy() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sigma = torch.logspace(-1.7, 1.9, 16, dtype=torch.float64)
    x = torch.randn(16, 64, generator=generator, dtype=torch.float64)
    return x * (0.25 + sigma**2).sqrt()[:, None], sigma


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


def test_bfloat16_has_the_stated_error(
    base: NetworkDenoiser, noisy: tuple[Tensor, Tensor]
) -> None:
    fast = accelerate(base, **PLAIN | {"precision": "bfloat16"})
    assert isinstance(fast, AutocastDenoiser)
    denoised = fast(*noisy)
    assert denoised.dtype == torch.float64
    assert 1e-4 < relative_error(denoised, base(*noisy)) < 2e-2
    labels = torch.arange(16) % 3
    bound = fast.with_labels(labels)
    assert 1e-4 < relative_error(bound(*noisy), base.with_labels(labels)(*noisy)) < 2e-2
    assert (fast.num_classes, fast.levels, fast.facts) == (3, base.levels, base.facts)
    _, divergence = bound.with_divergence(*noisy, torch.ones(1, 16, 64))
    _, exact = base.with_labels(labels).with_divergence(*noisy, torch.ones(1, 16, 64))
    assert relative_error(divergence, exact) < 5e-2


def test_a_trunk_of_the_base_stays_in_float32(
    base: NetworkDenoiser, noisy: tuple[Tensor, Tensor]
) -> None:
    fast = accelerate(base, **PLAIN | {"precision": "bfloat16"})
    trunks = [ModuleTrunk.of(EncoderFeatures(b.module), IMAGE) for b in (base, fast)]  # type: ignore[arg-type, attr-defined]
    x, sigma = (t.float() for t in noisy)
    assert torch.equal(trunks[0](x, sigma), trunks[1](x, sigma))


def test_without_a_request_the_base_is_as_it_was(base: NetworkDenoiser) -> None:
    assert accelerate(base, **PLAIN) is base


def test_channels_last_changes_rounding_only(
    base: NetworkDenoiser, noisy: tuple[Tensor, Tensor]
) -> None:
    expected = base(*noisy)
    other = NetworkDenoiser(copy.deepcopy(base.module), IMAGE, 3)
    accelerate(other, **PLAIN | {"is_channels_last": True})
    weight = next(p for p in other.module.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(other(*noisy), expected) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_compiled_base_computes_the_same(
    has_compiler: bool,
    noisy: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Without a C++ compiler the network runs uncompiled."""
    if not has_compiler:
        monkeypatch.setenv("CXX", str(tmp_path / "absent"))
        monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "absent"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    base = network(1)  # of one level, as compiling takes long
    expected = base(*noisy)
    compiled = accelerate(base, **PLAIN | {"is_compiled": True})
    assert relative_error(compiled(*noisy), expected) < 1e-5
    assert bool(list((tmp_path / "cache").rglob("*.so"))) == has_compiler
    torch._dynamo.reset()


def config_of(tmp_path: Path, *changes: str) -> StudyConfig:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return load_study(tmp_path / "tiny.yaml", list(changes)).configs[0].config


def test_precision_is_part_of_the_identity_and_rounding_is_not(tmp_path: Path) -> None:
    plain = config_of(tmp_path)
    rounded = config_of(tmp_path, "resources.compile=true", "resources.channels_last=true")
    precise = config_of(tmp_path, "base.precision=bfloat16")
    assert relevant_config(plain, "base") == relevant_config(rounded, "base")
    assert "precision" not in relevant_config(plain, "base")["base"]
    assert relevant_config(precise, "base")["base"]["precision"] == "bfloat16"
    assert base_key(plain) == base_key(precise)  # the weights are the same
    assert generated_key(plain) == generated_key(rounded) != generated_key(precise)
    assert likelihood_key(plain) != likelihood_key(precise)

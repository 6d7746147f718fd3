"""The code blocks of docs/python.md run, and their numbers are those of closed forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dgray.diffusion.mixture import GaussianMixture

ROOT = Path(__file__).parents[2]
INTERFACE, PARTS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.M | re.S
)


def normal(mean: float, std: float) -> GaussianMixture:
    ones = torch.ones(1, 2, dtype=torch.float64)
    return GaussianMixture(means=mean * ones, stds=std * ones, weights=ones[:, 0])


@pytest.mark.long
def test_the_interface_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    small = INTERFACE.replace('"replicates": 2', '"replicates": 1, "fit.checkpoints": [10]')
    values: dict[str, Any] = {}
    exec(small, values)
    assert values["samples"].shape == (16, 2)
    assert (tmp_path / "weight.pdf").stat().st_size > 1000


def test_the_parts_correct_a_shifted_normal_base() -> None:
    data, base = normal(0.5, 1.0), normal(0.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        "base": base,
        "real": data.sample(2000, generator).float(),
        "held_out": data.sample(500, generator),
    }
    torch.manual_seed(0)
    exec(PARTS, values)
    imports = [line for line in PARTS.splitlines() if "import" in line]
    lines = [line for line in PARTS.splitlines() if line and line not in imports]
    assert len(lines) <= 25
    # KL(data || base) = |shift|^2 / 2 = 0.25 nats, nearly all of which the discriminator removes.
    change, nll = values["path_kl_change"], values["nll"]
    assert abs(change.value + 0.25) < 4 * change.se + 0.03
    entropy = 2 * 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e)).item()
    assert abs(nll.value - entropy) < 4 * nll.se + 0.03
    assert values["distance"] < 0.05 < 0.5  # of the base: |shift|^2 = 0.5

"""Substitutes for the published Inception files: the same interfaces with other weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from dgray.metrics.features.inception import _ported_inception
from dgray.metrics.features.inception_file import STATE_DICT, TORCHSCRIPT, VARIABLE


class Layers(nn.Module):
    """Network from normalised images of 299 x 299 pixels to 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=4)
        self.head = nn.Linear(8 * 16, 2048)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.adaptive_avg_pool2d(torch.relu(self.stem(x)), [4, 4])
        return torch.relu(self.head(maps.flatten(1)))


class FakeInception(nn.Module):
    """The parts of inception-2015-12-05.pt that clean-fid uses: ``layers`` and a resizing call."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        resized = F.interpolate(x, size=[299, 299], mode="bilinear", align_corners=True)
        features = self.layers((resized - 128) / 128)
        return features if return_features else features[:, :10]


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both files."""
    folder = tmp_path_factory.mktemp("inception")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated; loading is not
        torch.manual_seed(0)
        torch.jit.script(FakeInception().eval()).save(str(folder / TORCHSCRIPT.name))
        network = _ported_inception()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # torchvision's initial weights take long to draw
                nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), folder / STATE_DICT.name)
    return folder


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Return smooth random images, uint8 (12, 3, 20, 28), the second half pale.

    Every mode resizes them, and height and width differ. For halves of equal distribution the
    distance would be so small that the error of clean-fid's matrix root would exceed 1e-6 of it.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(12, 3, 5, 7, generator=generator)
    fine = F.interpolate(coarse, size=(20, 28), mode="bicubic").clamp(0, 1)
    pixels = (255 * fine).round().to(torch.uint8)
    pixels[6:] = 192 + pixels[6:] // 4
    return pixels


def save_folder(pixels: Tensor, folder: Path) -> Path:
    """Save images as PNG files in their order."""
    folder.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def folders(pictures: Tensor, tmp_path: Path) -> tuple[Path, Path]:
    """Return folders of the first and the second half of the pictures."""
    return save_folder(pictures[:6], tmp_path / "a"), save_folder(pictures[6:], tmp_path / "b")

"""Location of the Inception-v3 weights of FID, which dgray never downloads."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dgray.errors import MissingFileError

VARIABLE = "DGRAY_INCEPTION"


@dataclass(frozen=True)
class WeightsFile:
    """Published file of weights.

    Attributes:
        name: file name.
        address: URL of the file.
        in_torch_hub: whether clean-fid stores it in the cache of torch hub, or in a fixed folder.
    """

    name: str
    address: str
    in_torch_hub: bool

    @property
    def cleanfid_path(self) -> Path:
        """Path at which clean-fid stores it (0.1.35)."""
        if self.in_torch_hub:
            return _torch_hub() / "checkpoints" / self.name
        return Path("." if platform.system() == "Windows" else "/tmp") / self.name


TORCHSCRIPT = WeightsFile(
    "inception-2015-12-05.pt",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    in_torch_hub=False,
)
STATE_DICT = WeightsFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    in_torch_hub=True,
)


def weights_file(mode: str) -> WeightsFile:
    """Return the published file of a mode of clean-fid (``dgray.metrics.features.inception``)."""
    return STATE_DICT if mode == "legacy_pytorch" else TORCHSCRIPT


def _torch_hub() -> Path:
    """Return the cache of torch hub; ``torch.hub.get_dir`` needs torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"


def find_weights(file: WeightsFile, path: Path | None = None) -> Path:
    """Find a file of weights by path, by ``DGRAY_INCEPTION``, or where clean-fid stores it.

    Args:
        file: the published file.
        path: the file, or a folder with it; None: use the environment variable or clean-fid.

    Raises:
        MissingFileError: if it is missing; states which file to get and where to put it.
    """
    variable = os.environ.get(VARIABLE)
    if path is not None:
        place, origin = _in_folder(path, file), "the given path"
    elif variable:
        place, origin = _in_folder(Path(variable), file), f"the environment variable {VARIABLE}"
    else:
        place, origin = file.cleanfid_path, "the path of clean-fid"
    if not place.is_file():
        raise MissingFileError(
            f"FID needs the Inception-v3 weights {file.name}, but there is no file {place} "
            f"({origin}). Get it from {file.address} and put it there, or set {VARIABLE} to "
            "the file or to a folder with it. dgray does not download it."
        )
    return place


def _in_folder(path: Path, file: WeightsFile) -> Path:
    return path / file.name if path.is_dir() else path

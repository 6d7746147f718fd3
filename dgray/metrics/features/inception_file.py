"""Where the Inception-v3 weights of FID are; they are never downloaded by dgray."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

VARIABLE = "DGRAY_INCEPTION"


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights, and where clean-fid keeps it.

    Attributes:
        name: its file name.
        address: where it is published.
        in_torch_hub: clean-fid keeps it in torch hub's cache, else in a folder that it hard-codes.
    """

    name: str
    address: str
    in_torch_hub: bool

    @property
    def cleanfid_path(self) -> Path:
        """Clean-fid's own place (0.1.35, ``features.py`` and ``inception_pytorch.py``)."""
        if self.in_torch_hub:
            return Path(torch.hub.get_dir()) / "checkpoints" / self.name
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


def find_weights(file: WeightsFile, given: Path | None = None) -> Path:
    """The file: as given, else as the environment says, else in clean-fid's own place.

    Args:
        file: which one.
        given: the file, or a folder that holds it under its name; None: not given.

    Raises:
        FileNotFoundError: it is not there; says which file to get and where to put it.
    """
    variable = os.environ.get(VARIABLE)
    if given is not None:
        place, why = _in_folder(given, file), "the path that was given"
    elif variable:
        place, why = _in_folder(Path(variable), file), f"the environment variable {VARIABLE}"
    else:
        place, why = file.cleanfid_path, "clean-fid's own place"
    if not place.is_file():
        raise FileNotFoundError(
            f"FID needs the Inception-v3 weights {file.name}, but there is no file {place} "
            f"({why}). Get it from {file.address} and put it there, or set {VARIABLE} to "
            "the file or to a folder with it. dgray does not download it."
        )
    return place


def _in_folder(path: Path, file: WeightsFile) -> Path:
    return path / file.name if path.is_dir() else path

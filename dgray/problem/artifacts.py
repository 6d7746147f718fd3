"""Typed view of the shared artifacts of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
from torch import Tensor

from dgray.problem.image_store import StoredImages, unpack_images


@dataclass(frozen=True)
class Shared:
    """Shared artifacts of one trial by role (see ``dgray.problem.make_shared.ARTIFACTS``)."""

    contents: Mapping[str, bytes]

    def __getitem__(self, role: str) -> bytes:
        try:
            return self.contents[role]
        except KeyError:
            raise ValueError(
                f"the artifact {role!r} is needed, but the shared artifacts are: "
                f"{', '.join(self.contents) or 'none'}"
            ) from None

    def get(self, role: str) -> bytes | None:
        """Return an artifact; None if it has not been made."""
        return self.contents.get(role)

    @property
    def images(self) -> StoredImages:
        """Images of the data set with their splits, on the CPU."""
        return unpack_images(self["images"])

    def tensors(self, role: str) -> dict[str, Tensor]:
        """Return the tensors of an artifact by name, on the CPU."""
        return safetensors.torch.load(self[role])

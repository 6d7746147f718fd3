"""A corrected model of a run as an object: denoiser, discriminator, samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pandas as pd

from dgray.errors import SampleError

if TYPE_CHECKING:
    import torch

    from dgray.api.run import Run
    from dgray.guided.discriminator import SampleDiscriminator
    from dgray.guided.model import GuidedDenoiser
    from dgray.trial.guided_model import RunRecipe


@dataclass(frozen=True)
class Model:
    """Guided model of a run: one trial at one checkpoint and one setting.

    Attributes:
        run: its run.
        row: means over replicates, with the columns of ``Run.means``.
    """

    run: Run = field(repr=False)
    row: pd.Series = field(repr=False)

    @property
    def trial(self) -> str:
        """Id of the trial."""
        return str(self.row["trial"])

    @property
    def label(self) -> str:
        """Objective and axes of the trial."""
        return str(self.row["label"])

    @property
    def epoch(self) -> int:
        """Epoch of the checkpoint."""
        return int(self.row["epoch"])

    @property
    def weight(self) -> float | None:
        """Guidance weight; None: calibrated."""
        weight = self.row["guidance_weight"]
        return None if pd.isna(weight) else float(weight)

    def denoiser(
        self, *, replicate: int = 0, weight: float | str | None = None, device: str = "cpu"
    ) -> GuidedDenoiser:
        """Return the corrected denoiser; rejection and Metropolis have none, see ``sample``.

        Args:
            replicate: replicate whose networks correct the base.
            weight: guidance weight in place of the model's own; ``"calibrated"``: the calibrated
                one, if the study evaluated it.
            device: torch device.
        """
        from dgray.trial.guided_denoiser import guided_denoiser

        recipe = self._recipe(replicate, weight)
        name = PurePosixPath(str(self.run.place)).name
        return guided_denoiser(recipe, torch_device(device), run=name)

    def discriminator(self, *, replicate: int = 0, device: str = "cpu") -> SampleDiscriminator:
        """Return the discriminator of one replicate: ``logit`` and ``gradient`` at (x, sigma).

        Raises:
            GuidedModelError: the correction has none.
        """
        from dgray.trial.guided_denoiser import sample_discriminator

        return sample_discriminator(self._recipe(replicate, None), torch_device(device))

    def export(
        self, out: str | os.PathLike[str], *, replicate: int = 0, weight: float | str | None = None
    ) -> Path:
        """Write weights and configuration to a folder, which ``dgray.load_exported`` reads.

        Args:
            out: new or empty folder.
            replicate: replicate whose networks are written.
            weight: guidance weight in place of the model's own; ``"calibrated"``: the calibrated
                one, if the study evaluated it.

        Raises:
            GuidedModelError: the model is a control, which has no weights, or has no denoiser.
            OutputError: the folder is not empty, or cannot be written.
        """
        return self.denoiser(replicate=replicate, weight=weight).save(out)

    def sample(
        self,
        n: int,
        *,
        seeds: int | Sequence[int] = 0,
        replicate: int = 0,
        weight: float | str | None = None,
        device: str = "cpu",
    ) -> torch.Tensor:
        """Draw samples, each of which depends on its own seed alone.

        Args:
            n: number of samples.
            seeds: seed of the first one, which the others follow, or a seed for each.
            replicate: replicate whose networks correct the base.
            weight: guidance weight in place of the model's own; ``"calibrated"``: the calibrated
                one, if the study evaluated it.
            device: torch device.

        Returns:
            Points, float32 (n, d), or images, uint8 (n, H, W, C).
        """
        from dgray.guided.sampling import sample_seeds

        numbers = sample_seeds(n, seeds)
        return self._recipe(replicate, weight).build(torch_device(device)).draw(numbers)

    def _recipe(self, replicate: int, weight: float | str | None) -> RunRecipe:
        from dgray.cli.find_model import recipe_of, row_of_replicate
        from dgray.guided.arguments import checked_integer, checked_number

        replicate = checked_integer("replicate", replicate, lowest=0)
        if weight is not None and not isinstance(weight, str):
            weight = checked_number("weight", weight)
        with self.run.folder() as folder:
            return recipe_of(folder, row_of_replicate(folder, self.row, replicate), weight)

    def __repr__(self) -> str:
        return f"<dgray.Model {self.label}, epoch {self.epoch}, weight {self.row['weight']}>"


def torch_device(name: str) -> torch.device:
    """Return a device of torch, which is imported here.

    Raises:
        SampleError: this machine has no such device.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SampleError(
            f"device must be one of this machine, but got {name!r}: {reason}"
        ) from error
    return device

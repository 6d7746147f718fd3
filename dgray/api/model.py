"""A guided model of a run as an object: denoiser, discriminator, samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import torch

    from dgray.api.run import Run
    from dgray.discriminator.discriminator import Discriminator
    from dgray.trial.guided_model import GuidedModel


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
        self, *, replicate: int = 0, weight: float | None = None, device: str = "cpu"
    ) -> GuidedDenoiser:
        """Return the guided denoiser.

        Args:
            replicate: replicate whose discriminator guides the base.
            weight: guidance weight in place of the model's own.
            device: torch device.
        """
        return GuidedDenoiser(self._build(replicate, weight, device))

    def discriminator(self, *, replicate: int = 0, device: str = "cpu") -> Discriminator:
        """Return the discriminator of one replicate: logit and gradient at (x, sigma).

        Points x have shape (*batch, d), images flattened; sigma has shape (*batch).
        """
        return self._build(replicate, None, device).discriminator

    def sample(
        self,
        n: int,
        *,
        first_seed: int = 0,
        replicate: int = 0,
        weight: float | None = None,
        device: str = "cpu",
    ) -> torch.Tensor:
        """Draw samples, each of which depends on its own seed alone.

        Args:
            n: number of samples.
            first_seed: seed of the first one; the others follow.
            replicate: replicate whose discriminator guides the base.
            weight: guidance weight in place of the model's own.
            device: torch device.

        Returns:
            Points, float32 (n, d), or images, uint8 (n, H, W, C).
        """
        return self._build(replicate, weight, device).draw(range(first_seed, first_seed + n))

    def _build(self, replicate: int, weight: float | None, device: str) -> GuidedModel:
        import torch

        from dgray.cli.find_model import recipe_of, row_of_replicate

        with self.run.folder() as folder:
            row = row_of_replicate(folder, self.row, replicate)
            return recipe_of(folder, row, weight).build(torch.device(device))

    def __repr__(self) -> str:
        return f"<dgray.Model {self.label}, epoch {self.epoch}, weight {self.row['weight']}>"


@dataclass(frozen=True)
class GuidedDenoiser:
    """D(x; sigma) of a guided model, a callable for any sampling loop.

    Attributes:
        model: base, discriminator and setting.
    """

    model: GuidedModel

    def __call__(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor | float,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Denoise.

        Args:
            x: noised points (n, d) or images (n, C, H, W) with values in [-1, 1] where clean.
            sigma: noise level, a number or shape (n,).
            labels: classes of a conditional base, int64 (n,).

        Returns:
            E[clean x | x; sigma] as estimated by the model, in the shape of x, float64.
        """
        import torch

        problem = self.model.problem
        flat = x.to(problem.device, torch.float64).reshape(len(x), -1)
        sigmas = torch.as_tensor(sigma, dtype=torch.float64, device=problem.device)
        with torch.no_grad():
            denoise = self.model.denoiser(labels)
            return denoise(flat, sigmas.expand(len(x))).reshape(x.shape)

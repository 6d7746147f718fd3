"""Writes a corrected model of a run to a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import torch

from dgray.cli.find_model import ZERO_WEIGHT, run_recipe
from dgray.cli.output import printed
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.legible import printable
from dgray.trial.guided_denoiser import guided_denoiser


def write_export(
    run: str, trial: str, out: Path, *, replicate: int, weight: float | str | None
) -> int:
    """Write the model, print what it is and how it is loaded, and return the exit status."""
    with reading(location(run)) as folder:
        recipe = run_recipe(folder, trial=trial, replicate=replicate, weight=weight)
        for line in folder.left_out:
            print(f"left out: {line}", file=sys.stderr)
    name = PurePosixPath(run).name
    model = guided_denoiser(recipe, torch.device("cpu"), run=name)
    folder_out = model.save(out)
    print(f"exported {printable(recipe.name)}")
    if recipe.is_base:
        print(ZERO_WEIGHT)
    print(f"to load it: dgray.load_exported({str(folder_out)!r})")
    return printed()

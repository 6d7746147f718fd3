"""Draw the samples of a request, and write them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from dgray.cli.find_model import ZERO_WEIGHT, base_recipe, run_recipe
from dgray.cli.sample import SampleRequest
from dgray.cli.sample_output import SampleOutput
from dgray.data.summary import counted
from dgray.errors import DgrayError, RunRefusedError, SampleError
from dgray.files import output_file, write_atomically
from dgray.problem.failure import describe
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.raster import grid_png
from dgray.trial.guided_model import Recipe, RunRecipe

NUM_SHOWN = 64  # images in the grid


def draw_samples(request: SampleRequest) -> int:
    """Draw the samples that are missing, write them, and print where they are."""
    if request.device == "auto":
        request = replace(request, device="cuda" if torch.cuda.is_available() else "cpu")
    _check_device(request)
    recipe = _recipe(request)
    print(f"sampling {recipe.name}")
    if isinstance(recipe, RunRecipe) and recipe.is_base:
        print(ZERO_WEIGHT)
    seeds = request.seeds or range(request.num_samples)
    output = SampleOutput(request.out, seeds, recipe.name)
    print(f"samples: {_sample(recipe, output, request)}")
    return 0


def _recipe(request: SampleRequest) -> Recipe:
    if request.base is not None:
        return base_recipe(request.base, num_steps=request.num_steps, seed=request.seed)
    assert request.run is not None
    with reading(location(request.run)) as run:
        recipe = run_recipe(
            run,
            trial=request.trial,
            replicate=request.replicate,
            epoch=request.epoch,
            weight=request.guidance_weight,
        )
        for line in run.left_out:
            print(f"left out: {line}", file=sys.stderr)
    return recipe


def _check_device(request: SampleRequest) -> None:
    """Refuse a device that this machine lacks; workers may be on other machines."""
    device = torch.device(request.device)
    count = torch.cuda.device_count()
    if device.type == "cuda" and not request.workers and (device.index or 0) >= count:
        raise RunRefusedError(
            f"--device {request.device}: this machine has {counted(count, 'CUDA device')} that "
            "torch can use; give another device, such as cpu"
        )


def _sample(recipe: Recipe, output: SampleOutput, request: SampleRequest) -> Path:
    """Draw the missing samples in batches; write a grid of the first images beside them."""
    missing = list(output.missing(request.batch_size))
    with Progress(transient=True) as progress:
        num_missing = sum(map(len, missing))
        task = progress.add_task("samples", total=len(output.seeds))
        progress.update(task, completed=len(output.seeds) - num_missing)
        for seeds, samples in _described(_drawn(recipe, missing, request)):
            if samples.dtype == torch.uint8:
                output_file(output.grid)  # before hours of work
            for seed, sample in zip(seeds, samples, strict=True):
                output.write(seed, sample.contiguous().numpy())
            progress.advance(task, len(seeds))
    first = np.stack([output.read(seed) for seed in output.seeds[:NUM_SHOWN]])
    if first.dtype == np.uint8:  # images, (n, H, W, C)
        pixels = first.transpose(0, 3, 1, 2)
        picture, _ = grid_png(pixels.reshape(len(pixels), -1), pixels.shape[1:])
        write_atomically(output.grid, lambda file: file.write(picture))
    return output.finish()


def _described(drawn: Iterator[tuple[range, Tensor]]) -> Iterator[tuple[range, Tensor]]:
    """Yield the samples, and describe errors of user-defined code of the model."""
    try:
        yield from drawn
    except (DgrayError, OSError):
        raise
    except Exception as error:  # of any type, as of user-defined code
        raise SampleError(f"the model cannot be sampled: {describe(error)}") from error


def _drawn(
    recipe: Recipe, ranges: Sequence[range], request: SampleRequest
) -> Iterator[tuple[range, Tensor]]:
    """Draw ranges of seeds in this process, or on Ray workers."""
    if request.workers and ranges:
        from dgray.engine.sample_workers import draw_on_workers

        gpus = request.gpus_per_worker
        if gpus is None:
            gpus = 0.0 if request.device == "cpu" else 1.0
        yield from draw_on_workers(
            recipe, ranges, workers=request.workers, gpus=gpus, device=request.device
        )
    elif ranges:
        model = recipe.build(torch.device(request.device))
        yield from ((seeds, model.draw(seeds).cpu()) for seeds in ranges)

"""``python -m dgray.sample``: draw samples from a guided model of a run, or from a base."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from dgray.cli.engine_command import engine_exit_status
from dgray.cli.find_model import base_recipe, run_recipe
from dgray.cli.sample_output import SampleOutput
from dgray.files import output_file, write_atomically
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.raster import grid_png
from dgray.trial.guided_model import Recipe

NUM_SHOWN = 64  # images in the grid
DESCRIPTION = (
    "Draw samples from a guided model of a run, or from a base without guidance. Exit status: 0 "
    "if all samples were written; 1 if a disk or store failed; 2 if the arguments were refused; "
    "130 if interrupted (the same command then draws the missing samples)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return engine_exit_status(
        lambda: _run(_parser().parse_args(arguments)),
        interrupted="interrupted; the same command draws the missing samples",
    )


def _run(args: argparse.Namespace) -> int:
    if args.base:
        recipe: Recipe = base_recipe(args.base, num_steps=args.num_steps, seed=args.seed)
    else:
        with reading(location(args.run)) as run:
            recipe = run_recipe(
                run, trial=args.trial, replicate=args.replicate, weight=args.guidance_weight
            )
            for line in run.left_out:
                print(f"left out: {line}", file=sys.stderr)
    print(f"sampling {recipe.name}")
    seeds = args.seeds or range(args.num_samples)
    print(f"samples: {_sample(recipe, SampleOutput(args.out, seeds, recipe.name), args)}")
    return 0


def _sample(recipe: Recipe, output: SampleOutput, args: argparse.Namespace) -> Path:
    """Draw the missing samples in batches; write a grid of the first images beside them."""
    missing = list(output.missing(args.batch_size))
    with Progress(transient=True) as progress:
        num_missing = sum(map(len, missing))
        task = progress.add_task("samples", total=len(output.seeds))
        progress.update(task, completed=len(output.seeds) - num_missing)
        for seeds, samples in _drawn(recipe, missing, args):
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


def _drawn(
    recipe: Recipe, ranges: Sequence[range], args: argparse.Namespace
) -> Iterator[tuple[range, Tensor]]:
    """Draw ranges of seeds in this process, or on Ray workers."""
    if args.workers and ranges:
        from dgray.engine.sample_workers import draw_on_workers

        gpus = args.gpus_per_worker
        if gpus is None:
            gpus = 0.0 if args.device == "cpu" else 1.0
        yield from draw_on_workers(
            recipe, ranges, workers=args.workers, gpus=gpus, device=args.device
        )
    elif ranges:
        model = recipe.build(torch.device(args.device))
        yield from ((seeds, model.draw(seeds).cpu()) for seeds in ranges)


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"must be A-B with A <= B, like 0-49999, but got {text}")
    return range(int(first), int(last) + 1)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, but got {text}")
    return int(text)


def _gpus(text: str) -> float:
    amount = float(text)
    if amount < 0 or (amount > 1 and not amount.is_integer()):
        raise argparse.ArgumentTypeError(
            f"must be a whole number of GPUs, or a fraction of one, but got {text}"
        )
    return amount


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dgray.sample", description=DESCRIPTION)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", nargs="?", metavar="RUN", help="folder or URI of a run")
    source.add_argument("--base", help="base without a run: file, URL or short name")
    parser.add_argument("--trial", default="best", metavar="ID|best", help="trial (default: best)")
    parser.add_argument(
        "--replicate",
        type=int,
        default=0,
        metavar="R",
        help="replicate whose discriminator guides the base (default: 0)",
    )
    parser.add_argument(
        "--guidance-weight",
        type=float,
        metavar="W",
        help="guidance weight (default: that of the best row)",
    )
    parser.add_argument(
        "--num-samples", type=_count, default=64, metavar="N", help="number (default: 64)"
    )
    parser.add_argument(
        "--seeds", type=_seeds, metavar="A-B", help="seeds, one per sample (default: the first N)"
    )
    parser.add_argument(
        "--num-steps", type=_count, default=18, help="with --base: sampling steps (default: 18)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="with --base: seed of the noise (default: 0)"
    )
    parser.add_argument(
        "--batch-size", type=_count, default=128, help="samples drawn together (default: 128)"
    )
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="torch device (default: cuda if there is one)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="number of Ray workers; 0: this process (default: 0)",
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=_gpus,
        metavar="G",
        help="GPUs of each worker (default: 1, or 0 if --device is cpu)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR|FILE.zip|FILE.npz",
        help="folder or archive to write: PNG files for images, npy or npz for points",
    )
    return parser

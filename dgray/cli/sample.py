"""``python -m dgray.sample``: draw samples from a guided model of a run, or from a base."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from dgray.cli.command import Parser
from dgray.cli.engine_command import engine_exit_status
from dgray.cli.find_model import base_recipe, run_recipe
from dgray.cli.sample_output import SampleOutput
from dgray.errors import DgrayError, RunRefusedError, SampleError, one_line
from dgray.files import output_file, write_atomically
from dgray.problem.failure import describe
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.raster import grid_png
from dgray.trial.guided_model import Recipe

NUM_SHOWN = 64  # images in the grid
MAX_SAMPLES = 10_000_000  # each is a file
MAX_STEPS = 100_000
MAX_WORKERS = 10_000
MAX_WEIGHT = 1e6
DESCRIPTION = (
    "Draw samples from a guided model of a run, or from a base without guidance. Exit status: 0 "
    "if all samples were written; 1 if a disk, store or model failed; 2 if the arguments were "
    "refused; 130 if interrupted (the same command then draws the missing samples)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return engine_exit_status(
        lambda: _run(_parser().parse_args(arguments)),
        interrupted="interrupted; the same command draws the missing samples",
    )


def _run(args: argparse.Namespace) -> int:
    _check_device(args)
    if args.base is not None:
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


def _check_device(args: argparse.Namespace) -> None:
    """Refuse a device that this machine lacks; workers may be on other machines."""
    device = torch.device(args.device)
    count = torch.cuda.device_count()
    if device.type == "cuda" and not args.workers and (device.index or 0) >= count:
        raise RunRefusedError(
            f"--device {args.device}: this machine has {count} CUDA devices that torch can use; "
            "give another device, like cpu"
        )


def _sample(recipe: Recipe, output: SampleOutput, args: argparse.Namespace) -> Path:
    """Draw the missing samples in batches; write a grid of the first images beside them."""
    missing = list(output.missing(args.batch_size))
    with Progress(transient=True) as progress:
        num_missing = sum(map(len, missing))
        task = progress.add_task("samples", total=len(output.seeds))
        progress.update(task, completed=len(output.seeds) - num_missing)
        for seeds, samples in _described(_drawn(recipe, missing, args)):
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
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})", text, re.ASCII)
    if match is None or int(match[1]) > int(match[2]):
        raise _refused("must be A-B with A <= B < 10^18, like 0-49999", text)
    seeds = range(int(match[1]), int(match[2]) + 1)
    if len(seeds) > MAX_SAMPLES:
        raise _refused(f"must be at most {MAX_SAMPLES} seeds", text)
    return seeds


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Return the parser of a whole number in [low, high]."""

    def parse(text: str) -> int:
        is_whole = re.fullmatch(r"\d{1,18}", text, re.ASCII)
        if is_whole is None or not low <= int(text) <= high:
            raise _refused(f"must be a whole number in [{low}, {high}]", text)
        return int(text)

    return parse


def _number(high: float, rule: str) -> Callable[[str], float]:
    """Return the parser of a number in [0, high]."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= high:  # nan is neither
            raise _refused(f"must be {rule} in [0, {high:g}]", text)
        return number

    return parse


def _gpus(text: str) -> float:
    amount = _number(MAX_WORKERS, "a number of GPUs")(text)
    if amount > 1 and not amount.is_integer():
        raise _refused("must be a whole number of GPUs, or a fraction of one", text)
    return amount


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", text, re.ASCII) is None:
        raise _refused("must be cpu, cuda or cuda:N (mps lacks float64)", text)
    return text


def _refused(rule: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{rule}, but got {one_line(text, 60)!r}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m dgray.sample", description=DESCRIPTION)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", nargs="?", metavar="RUN", help="folder or URI of a run")
    source.add_argument("--base", help="base without a run: file, URL or short name")
    parser.add_argument("--trial", default="best", metavar="ID|best", help="trial (default: best)")
    parser.add_argument(
        "--replicate",
        type=_whole(0, MAX_SAMPLES),
        default=0,
        metavar="R",
        help="replicate whose discriminator guides the base (default: 0)",
    )
    parser.add_argument(
        "--guidance-weight",
        type=_number(MAX_WEIGHT, "a number"),
        metavar="W",
        help="guidance weight (default: that of the best row)",
    )
    parser.add_argument(
        "--num-samples",
        type=_whole(1, MAX_SAMPLES),
        default=64,
        metavar="N",
        help="number (default: 64)",
    )
    parser.add_argument(
        "--seeds", type=_seeds, metavar="A-B", help="seeds, one per sample (default: the first N)"
    )
    parser.add_argument(
        "--num-steps",
        type=_whole(1, MAX_STEPS),
        default=18,
        help="with --base: sampling steps (default: 18)",
    )
    parser.add_argument(
        "--seed",
        type=_whole(0, 10**18),
        default=0,
        help="with --base: seed of the noise (default: 0)",
    )
    parser.add_argument(
        "--batch-size",
        type=_whole(1, MAX_SAMPLES),
        default=128,
        help="samples drawn together (default: 128)",
    )
    parser.add_argument(
        "--device",
        type=_device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="torch device (default: cuda if there is one)",
    )
    parser.add_argument(
        "--workers",
        type=_whole(0, MAX_WORKERS),
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

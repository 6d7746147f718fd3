"""``python -m dgray.sample``: draw samples of a run's guided model, or of a bare base.

Exit status: 0 all samples are there; 2 refused; 130 interrupted (the same command goes on).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from dgray.atomic_file import write_atomically
from dgray.config.problem import StudyError
from dgray.data.images import to_uint8
from dgray.reporting.image_grid import grid_png
from dgray.run_model import BareBase, RunModel, load_base_model, load_run_model
from dgray.sample_output import SampleOutput


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the value is the exit status."""
    args = _parser().parse_args(arguments)
    try:
        device = torch.device(args.device)
        if args.base:
            model: RunModel | BareBase = load_base_model(
                args.base, device, num_steps=args.num_steps, seed=args.seed
            )
        else:
            model = load_run_model(
                args.run, trial=args.trial, weight=args.guidance_weight, device=device
            )
        print(f"sampling {model.name}")
        path = _sample(model, SampleOutput(args.out, _seeds(args), model.name), args.batch_size)
    except (ValueError, OSError, StudyError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"samples: {path}")
    return 0


def _sample(model: RunModel | BareBase, output: SampleOutput, batch_size: int) -> Path:
    """Draw what is missing, a batch at a time, and a grid of the first images beside it."""
    with Progress(transient=True) as progress:
        task = progress.add_task("samples", total=len(output.seeds))
        for seeds in output.missing(batch_size):
            progress.update(task, completed=seeds.start - output.seeds.start)
            samples = model.draw(seeds).cpu()
            for seed, sample in zip(seeds, samples, strict=True):
                if model.shape is None:
                    output.write(seed, sample.float().numpy())
                else:
                    pixels = to_uint8(sample).unflatten(0, model.shape)
                    output.write(seed, pixels.permute(1, 2, 0).contiguous().numpy())
    if model.shape is not None:
        first = [output.read(seed) for seed in output.seeds[:64]]
        flat = np.stack([pixels.transpose(2, 0, 1).ravel() for pixels in first])
        picture, _ = grid_png(flat, model.shape)
        target = output.path.with_name(output.path.stem + "-grid.png")
        write_atomically(target, lambda file: file.write(picture))
    return output.finish()


def _seeds(args: argparse.Namespace) -> range:
    if args.seeds is None:
        return range(args.num_samples)
    first, _, last = args.seeds.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise ValueError(f"--seeds must be A-B with A <= B, like 0-49999, but got {args.seeds}")
    return range(int(first), int(last) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dgray.sample", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a run")
    source.add_argument("--base", help="or a stored network: file, address or short name")
    parser.add_argument("--trial", default="best", metavar="ID|best")
    parser.add_argument("--guidance-weight", type=float, metavar="W", help="default: the row's")
    parser.add_argument("--num-samples", type=int, default=64, metavar="N")
    parser.add_argument("--seeds", metavar="A-B", help="instead of the first N")
    parser.add_argument("--num-steps", type=int, default=18, help="of a bare base")
    parser.add_argument("--seed", type=int, default=0, help="of a bare base's noise")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR|FILE.zip|FILE.npz", help="points: npz only"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

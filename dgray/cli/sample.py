"""``dgray sample`` and ``python -m dgray.sample``: samples of a corrected model, or of a base."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dgray.cli.command import Command, run_command
from dgray.cli.engine_command import engine_command
from dgray.errors import one_line

MAX_SAMPLES = 10_000_000  # each is a file
MAX_STEPS = 100_000
MAX_WORKERS = 10_000
MAX_WEIGHT = 1e6
CALIBRATED = "calibrated"


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Arguments of the command line, under the names of its options."""

    run: str | None
    base: str | None
    trial: str
    epoch: int | None
    replicate: int
    guidance_weight: float | str | None
    num_samples: int
    seeds: range | None
    num_steps: int
    seed: int
    batch_size: int
    device: str
    workers: int
    gpus_per_worker: float | None
    out: Path


def _refused(rule: str, text: str) -> click.BadParameter:
    return click.BadParameter(f"{rule}, but got {one_line(text, 60)!r}")


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


def guidance_weight(text: str) -> float | str:
    """Parse a guidance weight: ``calibrated`` or a number >= 0."""
    return text if text == CALIBRATED else _number(MAX_WEIGHT, f"{CALIBRATED} or a number")(text)


def _gpus(text: str) -> float:
    amount = _number(MAX_WORKERS, "a number of GPUs")(text)
    if amount > 1 and not amount.is_integer():
        raise _refused("must be a whole number of GPUs, or a fraction of one", text)
    return amount


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text, re.ASCII) is None:
        raise _refused("must be cpu, cuda or cuda:N (mps lacks float64)", text)
    return text


def _option(
    name: str, parse: Callable[[str], object], default: object, metavar: str, text: str
) -> Callable[[Any], Any]:
    """Return an option whose default, unless it is None, is parsed as its values are."""
    value = None if default is None else str(default)
    return click.option(name, type=parse, default=value, metavar=metavar, help=text)


@click.command(
    cls=Command,
    examples=[
        "dgray sample runs/digits --out digits",
        "dgray sample runs/overfit --trial 'kl width=64 num_real=100' --out points.npz",
        "dgray sample --base edm.safetensors --seeds 0-49999 --device cuda --out edm.zip",
    ],
)
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--base", metavar="NETWORK", help="Base without a run: file, URL or short name.")
@click.option(
    "--trial",
    default="best",
    metavar="TRIAL|best",
    help="Trial of the run, by its name or id as dgray show prints them (default: best).",
)
@_option(
    "--epoch",
    _whole(0, 10**18),
    None,
    "E",
    "Checkpoint of the trial (default: that of the best row, or else the last).",
)
@_option(
    "--replicate",
    _whole(0, MAX_SAMPLES),
    0,
    "R",
    "Replicate whose networks correct the base (default: 0).",
)
@_option(
    "--guidance-weight",
    guidance_weight,
    None,
    "W|calibrated",
    "Guidance weight (default: that of the best row).",
)
@_option("--num-samples", _whole(1, MAX_SAMPLES), 64, "N", "Number of samples (default: 64).")
@_option("--seeds", _seeds, None, "A-B", "Seeds, one per sample (default: the first N).")
@_option(
    "--num-steps", _whole(1, MAX_STEPS), 18, "N", "With --base: sampling steps (default: 18)."
)
@_option("--seed", _whole(0, 10**18), 0, "N", "With --base: seed of the noise (default: 0).")
@_option(
    "--batch-size", _whole(1, MAX_SAMPLES), 128, "N", "Samples drawn together (default: 128)."
)
@_option("--device", _device, "auto", "DEVICE", "torch device (default: cuda if there is one).")
@_option(
    "--workers",
    _whole(0, MAX_WORKERS),
    0,
    "N",
    "Number of Ray workers; 0: this process (default: 0).",
)
@_option(
    "--gpus-per-worker",
    _gpus,
    None,
    "G",
    "GPUs of each worker (default: 1, or 0 if --device is cpu).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR|FILE.zip|FILE.npz",
    help="Folder or archive to write: PNG files for images, npy or npz for points.",
)
@engine_command(interrupted="interrupted; the same command draws the missing samples")
def sample(**options: Any) -> int:
    """Draw samples from a model of a run, or from a base.

    The model is a base with its correction; --base is a base without one. RUN is a
    folder or a URI. Exit status: 0 if all samples were written; 1 if a disk, store or model
    failed; 2 if the arguments were refused; 130 if interrupted (the same command then draws the
    missing samples).
    """
    request = SampleRequest(**options)
    if (request.run is None) == (request.base is None):
        raise click.UsageError("give either RUN or --base NETWORK")
    from dgray.cli.draw_samples import draw_samples

    return draw_samples(request)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m dgray.sample`` and return its exit status."""
    return run_command(sample, arguments, "python -m dgray.sample")

"""Facts about a network that its files state, read without torch.

A network is compared with a study before anything is computed (``dgray.problem.inputs``) and
again when it is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgray.errors import DiffusersError, NetworkError

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
# Power of beta in which a schedule is equally spaced, by ``beta_schedule``.
POWERS = {"linear": 1.0, "scaled_linear": 0.5}
MAX_STEPS = 100_000  # of a noise schedule; all that exist have far fewer
TOLERANCE = 1.01  # factor on noise levels, which studies and papers round


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about a network.

    Attributes:
        name: its file or folder.
        shape: (C, H, W) of its images.
        num_classes: 0: unconditional.
        sigma_min: lowest noise level that it was trained for.
        sigma_max: highest noise level that it was trained for; infinite if it is not known.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int = 0
    sigma_min: float = 0.0
    sigma_max: float = math.inf

    def conflicts(
        self, shape: tuple[int, ...] | None, num_classes: int | None, sigma_max: float
    ) -> list[tuple[str, str]]:
        """Return what does not fit a study, each as the field to change and the rule.

        Args:
            shape: shape of the data; None: unknown.
            num_classes: number of classes of the data, 0 without labels; None: unknown.
            sigma_max: highest noise level of the study.
        """
        conflicts = []
        if shape is not None and tuple(shape) != self.shape:
            conflicts.append(("base", self._wrong_shape(shape)))
        if self.num_classes and num_classes is not None and num_classes != self.num_classes:
            classes_of_data = f"have {num_classes}" if num_classes else "have no labels"
            rule = (
                f"{self.name} is conditional on {self.num_classes} classes, but the data "
                f"{classes_of_data}; use an unconditional network, or data with "
                f"{self.num_classes} classes"
            )
            conflicts.append(("base", rule))
        if sigma_max > self.sigma_max * TOLERANCE:
            conflicts.append(
                (
                    "diffusion.sigma_max",
                    f"must be at most {self.sigma_max:.4g}, the highest noise level of "
                    f"{self.name}, but got {sigma_max:g}; set diffusion.sigma_max: "
                    f"{_rounded_down(self.sigma_max):g}, or use a network with more noise levels",
                )
            )
        return conflicts

    def _wrong_shape(self, shape: tuple[int, ...]) -> str:
        channels, height, width = self.shape
        fix = "choose another base, or convert the data to its channels and size"
        if height == width and shape[0] == channels and len(set(shape[1:])) == 1:
            fix = (
                f"convert the images to {height} x {width} pixels (folders and zip files: "
                f"data.resize: {height}), or choose another base"
            )
        return (
            f"base and data must have samples of one shape, but {self.name} generates "
            f"{self.shape} and the data has {tuple(shape)}; {fix}"
        )

    def notice_of_lower_levels(self, sigma_min: float) -> str | None:
        """Return a notice if the noise levels of a study begin below those of the network."""
        if sigma_min * TOLERANCE >= self.sigma_min:
            return None
        return (
            f"diffusion.sigma_min: {self.name} was trained from noise level {self.sigma_min:.3g} "
            f"on, but the study begins at {sigma_min:g}; below, its output is extrapolated"
        )


def _rounded_down(value: float) -> float:
    scale = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / scale) * scale


def diffusers_folders(folder: Path) -> tuple[Path, Path]:
    """Return the folders of the model and of the scheduler.

    A pipeline has ``unet/`` and ``scheduler/``, or both in its own folder, like
    google/ddpm-cat-256.
    """
    model, scheduler = folder / "unet", folder / "scheduler"
    return (model if model.is_dir() else folder), (scheduler if scheduler.is_dir() else folder)


def diffusers_facts(folder: Path) -> NetworkFacts:
    """Return the facts about a model of diffusers.

    Raises:
        DiffusersError: no such folder, or a model of another kind.
    """
    model, scheduler = diffusers_folders(folder)
    config = diffusers_config(model / "config.json", "UNet2DModel")
    schedule = diffusers_config(scheduler / "scheduler_config.json", *SCHEDULERS)
    levels = _noise_levels(schedule)
    shape = diffusers_shape(config)
    classes = config.get("num_class_embeds") or 0
    return NetworkFacts(str(folder), shape, classes, *(levels or ()))


def diffusers_config(path: Path, *classes: str) -> dict[str, Any]:
    """Return a configuration file of diffusers of one of these classes.

    Raises:
        DiffusersError: no such file, or one of another class.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DiffusersError(f"a model of diffusers must have {path}: {error}") from error
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name not in classes:
        raise DiffusersError(f"{path} must describe a {' or a '.join(classes)}, not {name!r}")
    check_embeddings(config, path)
    return dict(config)


def check_embeddings(config: Mapping[str, Any], source: Path | str) -> None:
    """Check the embeddings of time and class of a model of diffusers.

    Raises:
        DiffusersError: they are not those of times and class numbers.
    """
    embedding = config.get("time_embedding_type", "positional")
    if embedding != "positional":
        raise DiffusersError(
            f"{source}: time_embedding_type must be positional, the only one defined for "
            f"fractional times, but it is {embedding!r}"
        )
    if config.get("class_embed_type") is not None:
        raise DiffusersError(
            f"{source}: class_embed_type must be null, an embedding of class numbers, but it is "
            f"{config['class_embed_type']!r}"
        )


def diffusers_shape(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (C, H, W) of the images of a model.

    Raises:
        DiffusersError: the configuration does not state it, or has other outputs than inputs.
    """
    size = config.get("sample_size")
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    if not isinstance(height, int) or not isinstance(width, int):
        raise DiffusersError(f"sample_size must be the size of an image, but is {size!r}")
    channels, outputs = (config.get(name, 3) for name in ("in_channels", "out_channels"))
    if not isinstance(channels, int) or outputs not in (channels, 2 * channels):
        raise DiffusersError(
            "out_channels must be in_channels, or twice as many with variances, but got "
            f"{outputs!r} and {channels!r}"
        )
    return channels, height, width


def _noise_levels(schedule: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the lowest and highest noise level of a schedule; None if its formula is another."""
    kind = schedule.get("beta_schedule", "linear")
    start, end = schedule.get("beta_start", 1e-4), schedule.get("beta_end", 0.02)
    count, trained = schedule.get("num_train_timesteps", 1000), schedule.get("trained_betas")
    if schedule.get("rescale_betas_zero_snr"):
        return None
    if trained is None and kind not in POWERS:
        return None
    try:
        if trained is None:
            power = POWERS[kind]
            low, high, last = start**power, end**power, max(1, min(count, MAX_STEPS) - 1)
            steps = (low + (high - low) * t / last for t in range(min(count, MAX_STEPS)))
            trained = [step ** (1 / power) for step in steps]
        alpha = [1 - float(beta) for beta in trained]
        first, final = (math.sqrt(1 / a - 1) for a in (alpha[0], math.prod(alpha)))
    except (TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise DiffusersError(f"a noise schedule cannot be computed: {error}") from error
    return first, final


def edm_facts(path: Path) -> NetworkFacts | None:
    """Return the facts in the JSON file beside a network file; None for a pickle.

    Raises:
        NetworkError: the JSON file is missing or damaged.
    """
    if path.suffix != ".safetensors":
        return None
    description = path.with_suffix(".json")
    try:
        record = json.loads(description.read_text(encoding="utf-8"))
        arguments = record["init_kwargs"]
        channels, side = int(arguments["img_channels"]), int(arguments["img_resolution"])
        classes = int(arguments.get("label_dim", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NetworkError(
            f"{path} must have its description {description.name} beside it, as written by "
            f"dgray checkpoint import, but reading that failed: {error}"
        ) from error
    return NetworkFacts(str(path), (channels, side, side), classes)

"""Loading of corrected models that ``dgray.guided.stored`` wrote; no code in the folder is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dgray.catalogue import BASES, DATA, SAMPLERS
from dgray.correction.weight import ConstantWeight, IntervalWeight, SplineWeight, Weight
from dgray.diffusion.denoiser import ChunkedDenoiser, Denoiser
from dgray.errors import DgrayError, GuidedModelError
from dgray.files import parse_json, read_bounded, sha256_of
from dgray.guided.description import BasePart, Description
from dgray.guided.model import GuidedDenoiser
from dgray.guided.sampling import Sampling
from dgray.guided.space import SampleSpace, SpaceWithBase
from dgray.guided.stored import (
    BASE,
    CONFIGURATION,
    CORRECTION,
    DISCRIMINATOR,
    FORMAT,
    MAX_CONFIGURATION,
)
from dgray.guided.trained_parts import LoadOptions, load_correction
from dgray.guided.user_denoiser import BATCH_SIZE, wrap_denoiser


def load_exported(
    folder: str | Path,
    *,
    denoiser: Callable[..., Tensor] | None = None,
    discriminator: Callable[..., torch.nn.Module] | None = None,
    device: str | torch.device = "cpu",
    trust_code: bool = False,
) -> GuidedDenoiser:
    """Load a corrected model that ``dgray export`` or ``GuidedDenoiser.save`` wrote.

    Args:
        folder: its folder.
        denoiser: the base, in place of the stored one; required if the model was made from the
            user's own denoiser.
        discriminator: the function that builds the discriminator, if that was the user's own.
        device: device of the model.
        trust_code: import and call the functions of other packages that the folder names.

    Raises:
        GuidedModelError: the folder holds no such model, is damaged, or needs an argument.
        NetworkError: the base cannot be loaded.
    """
    folder = Path(folder).expanduser()
    record, tensors, weights = _read(folder)
    try:
        return _build(
            record,
            tensors,
            weights,
            LoadOptions(denoiser, discriminator, trust_code, torch.device(device)),
        )
    except DgrayError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise GuidedModelError(
            f"{folder / CONFIGURATION} does not describe a model that this version can build "
            f"({type(error).__name__}: {error}); export it again"
        ) from error


def base_path(folder: Path) -> Path:
    """Return the folder of the diffusers model to which an exported model refers.

    Raises:
        GuidedModelError: the base is another.
    """
    part = _read(folder.expanduser())[0]["base"]
    if part is None or part["kind"] != "diffusers":
        raise GuidedModelError(
            f"the base of {folder} is not a model of diffusers; build a pipeline with your unet "
            "and scheduler, and call load_guidance(folder)"
        )
    _check_files(part)
    return Path(part["arguments"]["path"])


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], bytes | None]:
    """Return configuration, trained tensors, and the network of the base."""
    path = folder / CONFIGURATION
    try:
        record = parse_json(read_bounded(path, MAX_CONFIGURATION))
        digests: Mapping[str, str] = dict(record["sha256"])
        for name, digest in digests.items():
            if name in (DISCRIMINATOR, CORRECTION, BASE) and sha256_of(folder / name) != digest:
                raise GuidedModelError(f"{folder / name} has changed since it was exported")
        trained = DISCRIMINATOR if DISCRIMINATOR in digests else CORRECTION
        tensors = safetensors.torch.load_file(folder / trained)
        weights = (folder / BASE).read_bytes() if BASE in digests else None
    except OSError as error:
        raise GuidedModelError(
            f"{folder} holds no exported model: {error.filename or path}: "
            f"{error.strerror or error}; write one with dgray export"
        ) from error
    except GuidedModelError:
        raise
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise GuidedModelError(f"{folder} is damaged: {error}; export it again") from error
    if record.get("format") != FORMAT:
        raise GuidedModelError(
            f"{path} has the format {record.get('format')!r}, but this version reads {FORMAT}"
        )
    return record, tensors, weights


def _build(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    weights: bytes | None,
    options: LoadOptions,
) -> GuidedDenoiser:
    values = record["space"]
    space = SampleSpace(
        size=tuple(values["size"]),
        sigmas=(float(values["sigmas"][0]), float(values["sigmas"][1])),
        sigma_data=float(values["sigma_data"]),
        num_classes=int(values["num_classes"]),
        device=options.device,
    )
    base = _base(record["base"], weights, space, options)
    parts = {name: record.get(name) for name in ("discriminator", "correction")}
    loaded = load_correction(parts, tensors, SpaceWithBase.of(space, base), options)
    stored = record["base"]
    return GuidedDenoiser(
        base=base,
        correction=loaded.correction,
        weight=stored_weight(record["guidance"]),
        space=space,
        sampling=_sampling(record["sampling"], options),
        description=Description(
            space=space,
            base=None if stored is None else BasePart(**stored, weights=weights),
            discriminator=loaded.discriminator_part,
            correction=loaded.correction_part,
            guidance=record["guidance"],
            sampling=record["sampling"],
            source=record["source"],
        ),
    )


def _base(
    part: Mapping[str, Any] | None,
    weights: bytes | None,
    space: SampleSpace,
    options: LoadOptions,
) -> Denoiser:
    """Return the base: the given one, or the stored one."""
    if options.denoiser is not None:
        return wrap_denoiser(options.denoiser, space.size)
    if part is None:
        raise GuidedModelError(
            "the base of this model is the user's own; load it with denoiser=your_denoiser"
        )
    factory, arguments = options.factory(BASES, part), part["arguments"]
    if weights is not None:
        base: Denoiser = factory(weights, options.device)
    elif "data" in part:
        law = options.factory(DATA, part["data"])(**part["data"]["arguments"])
        base = factory(law, **arguments).to(options.device, torch.float64)
    else:
        _check_files(part)
        base = factory(space.size, options.device, **arguments)
    return ChunkedDenoiser(base, BATCH_SIZE) if space.is_image else base


def _check_files(part: Mapping[str, Any]) -> None:
    """Check that the files of a referenced network are those of the export.

    Raises:
        GuidedModelError: one is missing or has changed.
    """
    for name, digest in part.get("sha256", {}).items():
        path = Path(name)
        if not path.is_file():
            raise GuidedModelError(
                f"the base of this model is {path}, which is not here; load the model with "
                "denoiser=your_denoiser, or put the file there"
            )
        if sha256_of(path) != digest:
            raise GuidedModelError(f"{path} has changed since the model was exported")


def stored_weight(guidance: Mapping[str, Any]) -> Weight:
    """Return the guidance weight of a configuration."""
    value, interval = guidance["weight"], guidance["interval"]
    weight: Weight
    if isinstance(value, Mapping):
        knots = torch.tensor(value["sigmas"], dtype=torch.float64).log()
        weight = SplineWeight(knots, torch.tensor(value["weights"], dtype=torch.float64))
    else:
        weight = ConstantWeight(float(value))
    return weight if interval is None else IntervalWeight(weight, *map(float, interval))


def _sampling(values: Mapping[str, Any], options: LoadOptions) -> Sampling:
    """Return the settings of sampling; the sampler of another package is loaded if trusted.

    Without trust its name stays, and drawing samples needs a ``sampler``.
    """
    settings = dict(values)
    name, factory = settings.get("sampler", "ode"), settings.pop("factory", None)
    if factory is not None and options.trust_code:
        settings["sampler"] = options.factory(SAMPLERS, {"kind": name, "factory": factory})
    return Sampling(**settings)

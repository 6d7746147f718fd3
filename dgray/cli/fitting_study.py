"""Studies that fit images, a network or a mixture, as fields of a study file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgray.base.networks.facts import NetworkFacts, diffusers_facts, edm_facts
from dgray.catalogue import DATA, FEATURES, METRICS, MLP_MAX_VALUES, FeaturesSpec
from dgray.data.summary import DataSummary
from dgray.data.surveys import survey_folder, survey_npz, survey_zip
from dgray.errors import DataError, NetworkError, RunRefusedError
from dgray.plan.advice import visible_gpus
from dgray.problem.data_rules import MIN_CNN_CLASSES, MIN_CNN_IMAGES

Fields = dict[str, Any]
MIN_IMAGES = 5  # one for each split, and two for each error bar of a reported metric
_SIZES = (64, 32, 16, 8)  # to which square images are resized, in pixels
_MAX_SIZE_ON_CPU = 16
_MAX_REAL, _MAX_APART = 5000, 500  # images of a split


@dataclass(frozen=True)
class _Effort:
    """Sizes on which the time of a study of images depends."""

    width: int
    depth: int
    steps: int
    num_samples: int
    epochs: int


_EFFORTS = (  # from the largest
    _Effort(width=64, depth=2, steps=20_000, num_samples=2000, epochs=100),
    _Effort(width=32, depth=2, steps=5000, num_samples=1000, epochs=60),
    _Effort(width=16, depth=1, steps=2000, num_samples=400, epochs=60),
    _Effort(width=16, depth=1, steps=800, num_samples=200, epochs=40),
    _Effort(width=8, depth=1, steps=400, num_samples=100, epochs=20),
)


def mixture_study(name: str) -> Fields:
    """Return a study of a mixture of known density."""
    return {
        "name": name,
        "description": "Which objective lowers the KL divergence, and when does it overfit?",
        "replicates": 3,
        "diffusion": {"sigma_min": 0.02, "sigma_max": 20},
        "data": {"kind": "mixture", "name": "ring8", "num_real": [100, 300]},
        "base": {"kind": "wrong_mixture", "std_scale": 1.4, "num_generated": 1000},
        "discriminator": {"width": 32, "depth": 3},
        "fit": {
            "objective": ["cross_entropy", "kl"],
            "epochs": 400,
            "checkpoints": [25, 100, 400],
            "batch_size": 100,
        },
        "evaluate": {
            "guidance_weight": [0.5, 1, "calibrated"],
            "sampler": ["ode", "sde"],
            "metrics": ["kl", "path_kl", "kl_sde"],
            "num_points": 200,
            "num_samples": 500,
        },
    }


def studies_of_images(
    name: str, images: Path | None, *, edm: Path | None, diffusers: Path | None
) -> Iterator[Fields]:
    """Yield studies of images or of a network, from the largest.

    Raises:
        DataError: the images cannot be used, or are too few.
        RunRefusedError: no data set of dgray has the shape of the network.
        NetworkError: the file or folder of the network cannot be read.
    """
    network = _network(edm, diffusers)
    for data, summary in _data(images, network):
        for effort in _EFFORTS[0 if visible_gpus() else 1 :]:
            yield _study(name, data, summary, effort, network)


@dataclass(frozen=True)
class _Network:
    """Base that is a stored network."""

    base: Fields
    facts: NetworkFacts


def _network(edm: Path | None, diffusers: Path | None) -> _Network | None:
    if edm is not None:
        path = edm.expanduser().absolute()
        return _Network({"kind": "edm", "network": str(path)}, _edm_facts(path))
    if diffusers is not None:
        path = diffusers.expanduser().absolute()
        return _Network({"kind": "diffusers", "path": str(path)}, diffusers_facts(path))
    return None


def _edm_facts(path: Path) -> NetworkFacts:
    if (facts := edm_facts(path)) is not None:
        return facts
    from dgray.base.networks.importing.stored import build_denoiser, read_network  # torch

    try:
        return build_denoiser(read_network(path)).facts
    except ValueError as error:
        raise NetworkError(" ".join(str(error).split())) from error


def _data(images: Path | None, network: _Network | None) -> Iterator[tuple[Fields, DataSummary]]:
    """Yield the data section with its summary, at the sizes to which images can be resized."""
    if images is not None:
        yield from _files(images, network)
        return
    assert network is not None
    shape = network.facts.shape
    data_set = next(_data_sets(shape), None)
    if data_set is None:
        raise RunRefusedError(
            f"{network.facts.name}: no data set of dgray has images of shape {shape}; give yours "
            "with --images"
        )
    fields, num_images = data_set
    classes = {str(index): num_images // 10 for index in range(10)}
    yield fields, DataSummary("", num_images, shape, classes)


def _data_sets(shape: tuple[int, ...]) -> Iterator[tuple[Fields, int]]:
    """Yield the data sets of dgray with images of a shape, each with its number of images."""
    for spec in DATA.built_in:
        for fields, own in spec.shapes:
            if own == shape and spec.num_images is not None:
                yield {"kind": spec.name, **fields}, spec.num_images


def _files(images: Path, network: _Network | None) -> Iterator[tuple[Fields, DataSummary]]:
    path = images.expanduser().absolute()
    if path.suffix == ".npz":
        yield {"kind": "npz", "path": str(path)}, survey_npz(path)
        return
    kind = "zip" if path.suffix == ".zip" else "folder"
    survey = survey_zip if kind == "zip" else survey_folder
    largest = _SIZES[0] if visible_gpus() else _MAX_SIZE_ON_CPU
    resize: int | None = None
    try:
        summary = survey(path)
    except DataError:
        resize = network.facts.shape[1] if network else largest
        summary = survey(path, resize=resize)  # images of several sizes
    _, height, width = summary.shape
    if network is not None:
        sizes = [network.facts.shape[1]]
    elif height != width or summary.shape[0] * height * width <= MLP_MAX_VALUES:
        sizes = [height]
    else:
        first = min(largest, height - height % 4)
        sizes = [first, *(size for size in _SIZES if size < first)]
    for size in sizes:
        fields: Fields = {"kind": kind, "path": str(path)}
        if resize is not None or size != height:
            fields["resize"] = size
            yield fields, survey(path, resize=size)
        else:
            yield fields, summary


def _study(
    name: str, data: Fields, summary: DataSummary, effort: _Effort, network: _Network | None
) -> Fields:
    count = summary.num_images
    if count < MIN_IMAGES:
        raise DataError(
            f"{data.get('path', name)}: a study needs at least {MIN_IMAGES} images, for training, "
            f"validation and held-out metrics, but there are {count}; add some"
        )
    apart = min(_MAX_APART, max(1, count // 5)), min(2 * _MAX_APART, max(2, count // 4))
    pool = count - sum(apart)
    num_real = min(pool, _MAX_REAL)
    channels, height, width = summary.shape
    is_square = height == width and height % 4 == 0
    is_mlp = not is_square or channels * height * width <= MLP_MAX_VALUES
    checkpoints = [max(1, effort.epochs // 4), effort.epochs]
    sigma_min, sigma_max = 0.02, 80.0
    if network is not None:
        sigma_min = max(sigma_min, network.facts.sigma_min)
        sigma_max = min(sigma_max, network.facts.sigma_max)
    return {
        "name": name,
        "description": "Does guidance improve the base, and with which objective?",
        "replicates": 2,
        "diffusion": {"sigma_min": sigma_min, "sigma_max": sigma_max},
        "data": {
            **data,
            "num_real": num_real,
            "num_validation": apart[0],
            "num_held_out": apart[1],
        },
        "base": _base(effort, num_real, pool, network, is_mlp=is_mlp),
        "discriminator": _discriminator(effort, is_mlp=is_mlp),
        "fit": {
            "objective": ["cross_entropy", "kl"],
            "epochs": effort.epochs,
            "checkpoints": checkpoints,
            "batch_size": min(100, num_real),
        },
        "evaluate": _evaluate(summary, effort, pool, num_held_out=apart[1]),
        **({"resources": {"gpus_per_trial": 1}} if visible_gpus() else {}),
    }


def _base(
    effort: _Effort, num_real: int, pool: int, network: _Network | None, *, is_mlp: bool
) -> Fields:
    num_generated = max(2, min(num_real, 5 * effort.num_samples))
    if network is not None:
        return {**network.base, "num_generated": num_generated}
    width, depth = (128, 3) if is_mlp else (effort.width, effort.depth)
    return {
        "kind": "trained",
        "network": "mlp" if is_mlp else "unet",
        "width": width,
        "depth": depth,
        "num_real": pool,
        "steps": effort.steps,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "generation_steps": 18,
        "num_generated": num_generated,
    }


def _discriminator(effort: _Effort, *, is_mlp: bool) -> Fields:
    if is_mlp:
        return {"kind": "mlp", "width": 64, "depth": 2}
    return {"kind": "conv", "width": min(effort.width, 32), "depth": 1}


def _evaluate(summary: DataSummary, effort: _Effort, pool: int, *, num_held_out: int) -> Fields:
    """Return the evaluation, with the metrics that the images can give."""
    channels, height, width = summary.shape
    num_scored = min(effort.num_samples, num_held_out)
    metrics = ["path_kl", "memorisation"]
    if channels * height * width <= MLP_MAX_VALUES:
        metrics.append("nll")  # exact, and fast enough
    classes = summary.classes or {}
    has_classes = pool >= MIN_CNN_IMAGES and len(classes) >= MIN_CNN_CLASSES
    features = next((f for f in FEATURES.values() if _is_usable(f, has_classes=has_classes)), None)
    if features is not None and features.dimension is not None:
        scores = ["kid", "precision", "recall"]
        if num_scored > features.dimension:  # else the covariance is singular
            scores.insert(0, "fd")
        metrics += [name for name in scores if METRICS[name].min_samples <= num_scored]
    uses_features = any(METRICS[name].source == "features" for name in metrics)
    return {
        "guidance_weight": [0.5, 1, "calibrated"],
        "sampler": "ode",
        "num_steps": 18,
        "metrics": metrics,
        **({"features": features.name} if features and uses_features else {}),
        **({"tolerance": 0.3} if "nll" in metrics else {}),  # nats; below the standard errors
        "num_points": min(50, num_held_out),
        "num_samples": effort.num_samples,
        "num_noised": min(100, num_held_out),
    }


def _is_usable(features: FeaturesSpec, *, has_classes: bool) -> bool:
    """Return True if this machine has all that these features need."""
    if features.is_trained:
        return has_classes
    return bool(features.package) and importlib.util.find_spec(features.package) is not None

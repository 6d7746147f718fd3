"""The image half of ``dgray.build``: data sets, image denoisers and the problem they make."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dgray.artifact_keys import base_key, generated_key, images_key
from dgray.config.data import MixtureData
from dgray.config.image_data import (
    Cifar10Data,
    DigitsData,
    FolderData,
    GlyphsData,
    ImageData,
    NpzData,
    ZipData,
)
from dgray.config.study import StudyConfig
from dgray.data.cifar10 import cifar10
from dgray.data.digits import digits
from dgray.data.glyphs import glyphs
from dgray.data.image_files import read_folder, read_zip
from dgray.data.images import ImageSet, flatten
from dgray.data.npz import read_npz
from dgray.data.splits import split
from dgray.discriminator.chunked import ChunkedDenoiser
from dgray.fit_base import load_base
from dgray.image_store import StoredImages, unpack_images
from dgray.problem import Images, Problem, training_split

SIGMA_DATA = 0.5  # of images in [-1, 1] (Karras et al. 2022, Table 1)
BASE_SPLIT = "base"


def build_image_set(config: ImageData) -> ImageSet:
    """The whole data set that a study names."""
    match config:
        case DigitsData():
            return digits()
        case GlyphsData():
            return glyphs(config.size)
        case Cifar10Data():
            return cifar10(config.root, download=config.download)
        case FolderData():
            return read_folder(config.path, resize=config.resize, labels=config.labels)
        case ZipData():
            return read_zip(config.path, resize=config.resize, labels=config.labels)
        case NpzData():
            return read_npz(config.path)
    raise TypeError(f"no such kind of images: {config.kind}")


def build_images(config: StudyConfig) -> StoredImages:
    """The images of a study with the splits of its replicates and its base."""
    data = config.data
    assert not isinstance(data, MixtureData)
    images = build_image_set(data)
    sizes = {"validation": data.num_validation, "held_out": data.num_held_out}
    sizes |= {training_split(r): data.num_real for r in range(config.replicates)}
    sizes[BASE_SPLIT] = getattr(config.base, "num_real", 0)
    rows = split(images, sizes, config.seed, flip=data.flip)
    pixels = images.pixels
    if data.flip:  # a mirror image is a row of its own, after all the others
        pixels = torch.cat([pixels, pixels.flip(-1)])
        for name in set(rows) - {"validation", "held_out"}:
            rows[name] = torch.stack([rows[name], rows[name] + len(images)], dim=1).flatten()
    labels = images.labels
    if labels is not None and data.flip:
        labels = torch.cat([labels, labels])
    source = {"name": images.name, "sha256": images.sha256}
    return StoredImages(
        Images(flatten(pixels), rows, labels), images.shape, images.num_classes, source
    )


def build_image_problem(
    config: StudyConfig, artifacts: Mapping[str, bytes], device: torch.device
) -> Problem:
    """Images, the network that is wrong about them, and what it generated if that is there."""
    stored = unpack_images(artifacts[images_key(config)])
    key = generated_key(config)
    generated = unpack_images(artifacts[key]).to(device) if key in artifacts else None
    base = load_base(artifacts[base_key(config)], device)
    return Problem(
        config=config,
        law=None,
        base=ChunkedDenoiser(base, config.evaluate.batch_size),
        base_mixture=None,
        sigma_data=config.diffusion.sigma_data or SIGMA_DATA,
        prior_std=config.diffusion.prior_std or config.diffusion.sigma_max,
        real_samples=stored.to(device),
        generated_samples=generated,
        device=device,
        dimension=stored.images.pixels.shape[1],
        shape=stored.shape,
        num_classes=0,
    )

"""Builders for images: data sets, image denoisers, feature extractors and the problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dgray.base.networks.preconditioning import EncoderFeatures, Preconditioned
from dgray.config.data import (
    Cifar10Data,
    DigitsData,
    FolderData,
    GlyphsData,
    ImageData,
    NpzData,
    ZipData,
)
from dgray.config.study import StudyConfig
from dgray.config.training import ConvDiscriminator
from dgray.data.cifar10 import cifar10
from dgray.data.digits import digits
from dgray.data.glyphs import glyphs
from dgray.data.image_files import read_folder, read_zip
from dgray.data.images import ImageSet, flatten
from dgray.data.npz import read_npz
from dgray.data.splits import split
from dgray.diffusion.denoiser import ChunkedDenoiser
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.trunk import ModuleTrunk, load_trunk
from dgray.metrics.features.cnn import fit_cnn, load_cnn
from dgray.metrics.features.custom import load_custom
from dgray.metrics.features.efficientnet import load_efficientnet
from dgray.metrics.features.extractor import FeatureExtractor
from dgray.metrics.features.inception import InceptionMode, load_inception, weights_file
from dgray.metrics.features.inception_file import find_weights
from dgray.plan.shared_keys import cnn_key, generated_key, images_key, inception_key
from dgray.problem.base_model import build_image_base
from dgray.problem.image_store import StoredImages, unpack_images
from dgray.problem.problem import Images, Problem, training_split

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
    assert isinstance(data, ImageData)
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


def fit_extractor(config: StudyConfig, artifacts: Mapping[str, bytes]) -> bytes:
    """The CNN of ``evaluate.features: cnn``, trained on every image that training may use.

    So it is the same in all trials of a study, however few images their discriminators see.

    Raises:
        ValueError: the images have no labels.
    """
    stored = unpack_images(artifacts[images_key(config)])
    if stored.images.classes is None:
        raise ValueError(
            "evaluate.features 'cnn' is trained on labels, but the images have none; use "
            "'efficientnet_lite0', an inception, or your own extractor"
        )
    rows = stored.pool
    pixels = stored.images.pixels[rows].unflatten(1, stored.shape)
    return fit_cnn(pixels, stored.images.classes[rows], stored.num_classes, seed=config.seed)


def build_extractor(
    config: StudyConfig, artifacts: Mapping[str, bytes], device: torch.device
) -> FeatureExtractor:
    """The network in whose features images are compared."""
    features = config.evaluate.features
    match features:
        case "cnn":
            return load_cnn(artifacts[cnn_key(config)], device)
        case "efficientnet_lite0":
            return load_efficientnet(device)
        case "inception_clean" | "inception_legacy_pytorch" | "inception_legacy_tensorflow":
            weights = artifacts[inception_key(config)]
            return load_inception(_INCEPTION_MODES[features], device, weights)
    shape = unpack_images(artifacts[images_key(config)]).shape
    return load_custom(features, shape, device)


def import_inception(config: StudyConfig) -> bytes:
    """The file of Inception's weights, found on this machine and tried.

    Raises:
        FileNotFoundError: it is not there; says where to put which.
        ValueError: it is not what its name says.
    """
    mode, given = _INCEPTION_MODES[config.evaluate.features], config.evaluate.inception_weights
    path = find_weights(weights_file(mode), None if given is None else Path(given).expanduser())
    load_inception(mode, weights=path)
    return path.read_bytes()


_INCEPTION_MODES: Mapping[str, InceptionMode] = {
    "inception_clean": "clean",
    "inception_legacy_pytorch": "legacy_pytorch",
    "inception_legacy_tensorflow": "legacy_tensorflow",
}


def build_image_problem(
    config: StudyConfig, artifacts: Mapping[str, bytes], device: torch.device
) -> Problem:
    """Images, the network that is wrong about them, and what it generated if that is there."""
    stored = unpack_images(artifacts[images_key(config)])
    key = generated_key(config)
    generated = unpack_images(artifacts[key]).to(device) if key in artifacts else None
    base = build_image_base(config, artifacts, stored.shape, device)
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
        num_classes=stored.num_classes if _asks_for_classes(config) else 0,
    )


def build_conv(
    problem: Problem, network: ConvDiscriminator, generators: Sequence[torch.Generator]
) -> ConvNet:
    """A fresh convolutional ensemble, one member a generator, on the CPU but for its trunk."""
    assert problem.shape is not None  # a rule of the study file
    trunk = None
    if network.trunk == "base":
        trunk = ModuleTrunk.of(EncoderFeatures(_base_module(problem)), problem.shape)
    elif network.trunk != "none":
        trunk = load_trunk(network.trunk, problem.shape, problem.device)
    shape = ConvShape(
        image=problem.shape if trunk is None else trunk.shape,
        width=network.width,
        depth=network.depth,
        attention=network.attention,
        num_classes=problem.num_classes if network.conditional else 0,
    )
    return initialise_conv(shape, problem.sigma_data, generators, trunk=trunk)


def _base_module(problem: Problem) -> Preconditioned:
    """The network of the base, whose encoder a discriminator is to stand on."""
    base = problem.base.inner if isinstance(problem.base, ChunkedDenoiser) else problem.base
    module = getattr(base, "module", None)
    if not isinstance(module, Preconditioned):
        raise ValueError(
            "discriminator.trunk 'base' needs a base with an encoder, a U-Net; use base.network "
            "'unet', base.kind 'edm', or trunk: none"
        )
    return module


def _asks_for_classes(config: StudyConfig) -> bool:
    """Whether base or discriminator are class-conditional."""
    return any(getattr(part, "conditional", False) for part in (config.base, config.discriminator))

"""Features of a small network trained on the labels of the data, for small images.

They represent what distinguishes the classes. Distances in these 64 features need few samples,
while the 2048 of Inception-v3 need tens of thousands. They are named ``fd_cnn``, never FID, and
are not comparable between two trainings, so the hash of the weights is reported with each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgray.adam import Adam
from dgray.diffusion.noise import named_generator
from dgray.errors import FeaturesError
from dgray.files import safetensors_metadata, sha256_of
from dgray.metrics.features.extractor import Features, FeatureSource, Pixels, check_pixels

NAME = "fd_cnn"
DIMENSION = 64
CHANNELS = (32, 64, 64)
GRID = 2  # height and width to which the last feature maps are averaged
HELD_OUT = 0.1  # share of the images on which the accuracy is measured
BATCH_SIZE = 64
LEARNING_RATE = 2e-3


class SmallCnn(nn.Module):
    """Three convolutions, 64 features and a linear classifier, without batch normalisation."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.maps = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
        )
        self.last = nn.Linear(third * GRID**2, DIMENSION)
        self.classifier = nn.Linear(DIMENSION, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the features, shape (N, 64), of images (N, C, H, W) in [-1, 1]."""
        return F.silu(self.last(self.maps(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classes, shape (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


@dataclass(frozen=True, eq=False)
class CnnFeatures:
    """Feature extractor built from the layer before the classifier of a ``SmallCnn``.

    Attributes:
        source: description of the features; its hash is that of the artifact.
        device: device of the network.
        network: trained network.
        held_out_accuracy: accuracy on the held-out tenth of its images.
    """

    source: FeatureSource
    device: torch.device
    network: SmallCnn
    held_out_accuracy: float

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Features:
        """Return the 64 features of images of the shape of the training images."""
        check_pixels(pixels)
        expected = self.network.maps[0].in_channels
        if pixels.shape[1] != expected:
            raise FeaturesError(
                f"the network was trained on images of {expected} channel(s), but these have "
                f"{pixels.shape[1]}"
            )
        return self.network.features(_unit(pixels.to(self.device)))


def fit_cnn(
    pixels: Tensor, labels: Tensor, num_classes: int, *, seed: int, epochs: int = 10
) -> bytes:
    """Train on nine tenths of the images; return weights and held-out accuracy as safetensors.

    Equal arguments give equal bytes on the same machine with the same number of threads.

    Args:
        pixels: uint8, shape (N, C, H, W) with C of 1 or 3, N >= 20.
        labels: int64, shape (N,), from 0 to num_classes - 1.
        num_classes: at least 2.
        seed: seed of the split, the initial weights and the order of the images.
        epochs: passes over the training images.

    Raises:
        FeaturesError: if the arguments are inconsistent.
    """
    _check(pixels, labels, num_classes)
    order = torch.randperm(len(pixels), generator=named_generator(seed, "cnn", "split"))
    held_out, training = order.split([held := int(HELD_OUT * len(order)), len(order) - held])
    generator = named_generator(seed, "cnn", "initial")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        network = SmallCnn(pixels.shape[1], num_classes)
    _train(network, _unit(pixels[training]), labels[training], seed, epochs)
    with torch.no_grad():
        predicted = torch.cat(
            [network(_unit(part)) for part in pixels[held_out].split(256)]
        ).argmax(1)
    accuracy = float((predicted == labels[held_out]).double().mean())
    facts = {"num_classes": num_classes, "seed": seed, "held_out_accuracy": accuracy}
    # One entry: safetensors does not keep the order of several.
    metadata = {"cnn": json.dumps(facts, sort_keys=True)}
    return safetensors.torch.save(dict(network.state_dict()), metadata)


def load_cnn(weights: bytes, device: torch.device | str = "cpu") -> CnnFeatures:
    """Load the network from the bytes that ``fit_cnn`` returned.

    Raises:
        FeaturesError: if the bytes are something else.
    """
    facts = _read_facts(weights)
    state = safetensors.torch.load(weights)
    network = SmallCnn(state["maps.0.weight"].shape[1], int(facts["num_classes"]))
    network.load_state_dict(state)
    device = torch.device(device)
    network = network.to(device).eval().requires_grad_(False)
    source = FeatureSource(NAME, DIMENSION, "none", sha256_of(weights))
    return CnnFeatures(source, device, network, facts["held_out_accuracy"])


def _train(network: SmallCnn, x: Tensor, labels: Tensor, seed: int, epochs: int) -> None:
    steps = epochs * -(-len(x) // BATCH_SIZE)
    optimizer = Adam(network.parameters())
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=named_generator(seed, "cnn", "fit", epoch))
        for batch in order.split(BATCH_SIZE):
            loss = F.cross_entropy(network(x[batch]), labels[batch])
            optimizer.minimize(loss, LEARNING_RATE * (1 - step / steps))
            step += 1


def _check(pixels: Tensor, labels: Tensor, num_classes: int) -> None:
    check_pixels(pixels)
    if len(pixels) < 20 or num_classes < 2:
        raise FeaturesError(
            "a network on labels needs at least 20 images and 2 classes, but got "
            f"{len(pixels)} and {num_classes}"
        )
    low, high = int(labels.min()), int(labels.max())
    if labels.shape != (len(pixels),) or low < 0 or high >= num_classes:
        raise FeaturesError(
            f"labels must be one per image, from 0 to {num_classes - 1}, but got shape "
            f"{tuple(labels.shape)} for {len(pixels)} images, from {low} to {high}"
        )


def _unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def _read_facts(content: bytes) -> dict[str, float]:
    """Return the facts in the header."""
    try:
        return dict(json.loads(safetensors_metadata(content)["cnn"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FeaturesError("these bytes are not a network that fit_cnn made") from error

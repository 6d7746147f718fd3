"""Images: samples, likelihoods and the builders of a problem of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dgray.base.fit_data import BaseData
from dgray.config.data import ImageData
from dgray.config.parts import section_arguments
from dgray.config.study import StudyConfig
from dgray.data.images import ImageSet, Shape, flatten, to_uint8, unflatten
from dgray.data.splits import split
from dgray.diffusion.denoiser import ChunkedDenoiser
from dgray.diffusion.noise import named_generator, philox_noise
from dgray.metrics.estimate import Estimate
from dgray.problem.artifacts import ImageSamples, Shared, StoredImages, pack_images, unpack_images
from dgray.problem.base_model import TrainingData, build_base
from dgray.problem.problem import Labelled, Problem, training_split

SIGMA_DATA = 0.5  # of images in [-1, 1] (Karras et al. 2022, Table 1)
BASE_SPLIT = "base"
MAX_EXACT_DIMENSION = 64  # above, the divergence is estimated with probes
SHARDS_PER_PART = 4
_TITLES = {  # of splits in messages
    "validation": "the split of data.num_validation",
    "held_out": "the split of data.num_held_out",
    BASE_SPLIT: "the split of base.num_real",
}
NUM_SHOWN = 64  # images of a setting that the report shows


@dataclass(frozen=True, kw_only=True)
class ImageProblem(Problem):
    """Problem of images.

    Attributes:
        image_shape: (C, H, W).
    """

    image_shape: Shape

    @property
    @override
    def shape(self) -> Shape:
        return self.image_shape

    @override
    def sample_noise(self, seeds: Sequence[int], shape: tuple[int, ...], purpose: str) -> Tensor:
        return philox_noise(self.seed, seeds, shape, purpose)

    @override
    def likelihood_points(self, split: str) -> Tensor:
        """Return images dequantised uniformly (Theis et al. 2016, arXiv 1511.01844).

        Their bits per dimension are those of the literature.
        """
        clean = self.real(split, self.evaluation.num_points)
        names = () if split == "held_out" else (split,)
        generator = named_generator(self.seed, "noise", "likelihood", *names)
        within = torch.rand(clean.shape, generator=generator, dtype=torch.float64).to(clean)
        return clean + (within - 0.5) / 127.5

    @override
    def likelihood_probes(self, split: str) -> Tensor | None:
        """Return the same probes of a point along its path and in every model.

        Differences between models are then paired.
        """
        if self.dimension <= MAX_EXACT_DIMENSION:
            return None
        evaluation = self.evaluation
        count = min(evaluation.num_points, self.sizes.real(split))
        shape = (evaluation.num_probes, count, self.dimension)
        generator = named_generator(self.seed, "probes")
        signs = torch.randint(2, shape, generator=generator, dtype=torch.int8)
        return (2 * signs - 1).to(self.device, torch.float32)

    @override
    def likelihood_estimates(
        self, points: Tensor, log_prob: Tensor, labels: Tensor | None
    ) -> dict[str, Estimate]:
        nll = Estimate.of(-log_prob)
        bits = nll.scaled(1 / (self.dimension * math.log(2)))
        # A pixel's 256 bytes are 2 / 255 = 1 / 127.5 apart: density per unit -> mass per byte.
        per_byte = Estimate(bits.value + math.log2(127.5), bits.se)
        return {"nll": nll, "bits_per_dim": per_byte}

    @override
    def shown(self, split: str) -> Tensor:
        return self.real_stored(split)[:NUM_SHOWN]

    @override
    def generation_batches(self, start: int, stop: int) -> list[range]:
        size = self.evaluation.shard_size
        return [range(first, min(first + size, stop)) for first in range(start, stop, size)]

    @override
    def generation_noise(self, split: str, seeds: range) -> Tensor:
        return philox_noise(self.seed, seeds, (self.dimension,), f"generated {split}")

    @override
    def to_stored(self, samples: Tensor) -> Tensor:
        return to_uint8(samples)

    @override
    def to_output(self, samples: Tensor) -> Tensor:
        return unflatten(to_uint8(samples), self.image_shape).movedim(1, -1)


def build_image_problem(
    config: StudyConfig, shared: Shared, device: torch.device, values: Mapping[str, Any]
) -> ImageProblem:
    """Build a problem of images; ``values``: the fields that all problems share."""
    stored, generated = shared.images, None
    if (content := shared.get("generated")) is not None:
        generated = unpack_images(content).images.to(device)
    base = build_base(config, shared, stored.shape, device, num_classes=stored.num_classes)
    is_conditional = getattr(base, "num_classes", 0) > 0 or any(
        getattr(part, "conditional", False) for part in (config.base, config.discriminator)
    )
    return ImageProblem(
        image_shape=stored.shape,
        base=ChunkedDenoiser(base, config.evaluate.batch_size),
        sigma_data=config.diffusion.sigma_data or SIGMA_DATA,
        real_samples=stored.images.to(device),
        generated_samples=generated,
        device=device,
        dimension=math.prod(stored.shape),
        num_classes=stored.num_classes if is_conditional else 0,
        **values,
    )


def image_training_data(config: StudyConfig, shared: Shared) -> TrainingData:
    """Return the images that a base is trained on: a split of its own."""
    stored = shared.images
    rows = stored.images.rows[BASE_SPLIT]
    classes = stored.images.classes
    labels = None if classes is None else classes[rows]
    sigma_data = config.diffusion.sigma_data or SIGMA_DATA
    return TrainingData(BaseData(stored.pixels(rows), labels), sigma_data, stored.num_classes)


def image_part_size(config: StudyConfig) -> int:
    """Return the number of generated images that a worker draws before it returns them."""
    return SHARDS_PER_PART * config.evaluate.shard_size


def pack_generated_images(shared: Shared, by_split: Mapping[str, Labelled]) -> bytes:
    """Return the artifact of the images that a base generated."""
    rows, start = {}, 0
    for name, (pixels, _) in by_split.items():
        rows[name] = torch.arange(start, start + len(pixels))
        start += len(pixels)
    labels = [labels for _, labels in by_split.values() if labels is not None]
    images = ImageSamples(
        torch.cat([pixels for pixels, _ in by_split.values()]),
        rows,
        torch.cat(labels) if labels else None,
    )
    data, source = shared.images, {"name": "generated by the base", "sha256": ""}
    return pack_images(StoredImages(images, data.shape, data.num_classes, source))


def image_artifact(config: StudyConfig, shared: Shared) -> bytes:
    """Return the artifact of the images of a study, with the splits of replicates and base."""
    data = config.data
    assert isinstance(data, ImageData)
    images = build_image_set(data)
    rows = image_splits(config, images)
    pixels, labels = images.pixels, images.labels
    if data.flip:  # a mirror image is a row of its own, after all the others
        pixels = torch.cat([pixels, pixels.flip(-1)])
        labels = None if labels is None else torch.cat([labels, labels])
        for name in set(rows) - {"validation", "held_out"}:
            rows[name] = torch.stack([rows[name], rows[name] + len(images)], dim=1).flatten()
    source = images.summary.to_json() | {"sha256": images.sha256}
    samples = ImageSamples(flatten(pixels), rows, labels)
    return pack_images(StoredImages(samples, images.shape, images.num_classes, source))


def image_splits(config: StudyConfig, images: ImageSet) -> dict[str, Tensor]:
    """Return the indices of the images of each split.

    Raises:
        DataError: if there are too few different images.
    """
    data = config.data
    sizes = {"validation": data.num_validation, "held_out": data.num_held_out}
    sizes |= {training_split(r): data.num_real for r in range(config.replicates)}
    sizes[BASE_SPLIT] = getattr(config.base, "num_real", 0)
    titles = {name: f"the split of data.num_real ({name})" for name in sizes} | _TITLES
    flip = bool(getattr(data, "flip", False))
    return split(images, sizes, config.seed, flip=flip, titles=titles)


def build_image_set(config: ImageData) -> ImageSet:
    """Return the whole data set that a study file names."""
    images = config.spec.load()(**section_arguments(config, ImageData))
    if not isinstance(images, ImageSet):
        raise TypeError(
            f"the factory of data of images must return an ImageSet, but {config.spec.factory} "
            f"returned {type(images).__name__}"
        )
    return images

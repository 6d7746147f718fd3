"""Which image is in which split: fixed by the images' content and a seed, not by their order.

Identical images are one: they never stand on both sides of a boundary, so a held-out image is
not a training image under another file name. Knows hashes of pixels, not where images come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from dgray.data.images import ImageSet

APART = ("held_out", "validation")


def split(
    images: ImageSet, sizes: Mapping[str, int], seed: int, *, flip: bool = False
) -> dict[str, Tensor]:
    """Indices of every split, int64, in the split's own order.

    ``held_out`` and ``validation`` are apart from each other and from all others. What remains is
    the pool, and every other name (``training-0``, ``training-1``, ``base``) is its own draw
    without replacement from it, so two of those may share images. Where the data set has a test
    part of its own (``ImageSet.is_test``), that serves the first two, and the rest is the pool.

    A split of n images is the first n of an order that depends on the seed, its name and the
    images alone: a larger split contains the smaller, and neither of the first two depends on the
    size of the other (unless together they take nearly all there is). Splits are not stratified.

    Args:
        images: the data set.
        sizes: number of images by name of the split.
        seed: the study's.
        flip: training images will also be mirrored, so an image and its mirror image count as
            identical too.

    Raises:
        ValueError: a size is negative, or there are too few images.
    """
    digests = _digests(images, flip)
    labels = [-1] * len(images) if images.labels is None else images.labels.tolist()
    candidates, pool = _parts(images, digests)

    def order(indices: Iterable[int], name: str) -> list[int]:
        key = hashlib.sha256(repr((seed, name)).encode())

        def place(index: int) -> tuple[bytes, int]:
            keyed = key.copy()
            keyed.update(digests[index])
            return keyed.digest(), labels[index]

        return sorted(indices, key=place)

    apart = order(candidates, "apart")
    found: dict[str, Tensor] = {}
    taken: set[bytes] = set()
    for name, ordered in zip(APART, (apart, apart[::-1]), strict=True):
        left = [i for i in ordered if digests[i] not in taken]
        chosen = _first(left, name, sizes.get(name, 0), images)
        taken.update(digests[i] for i in chosen)
        found[name] = torch.tensor(chosen, dtype=torch.int64)
    pool = [i for i in pool if digests[i] not in taken]
    for name in sizes:
        if name not in APART:
            chosen = _first(order(pool, name), name, sizes[name], images)
            found[name] = torch.tensor(chosen, dtype=torch.int64)
    return {name: found[name] for name in sizes}


def _first(ordered: list[int], name: str, size: int, images: ImageSet) -> list[int]:
    if not 0 <= size <= len(ordered):
        raise ValueError(
            f"the split {name!r} must have from 0 to {len(ordered)} images, but {size} are asked "
            f"for: of the {len(images)} images of {images.name}, the rest are in other splits, "
            "identical to one that is, or kept for testing by the data set itself; "
            f"lower the size of {name!r}, or that of another"
        )
    return ordered[:size]


def _parts(images: ImageSet, digests: list[bytes]) -> tuple[list[int], list[int]]:
    """Indices that held-out and validation images come from, and those of the pool."""
    if images.is_test is None:
        return list(range(len(images))), list(range(len(images)))
    is_test = images.is_test.tolist()
    pool = [i for i, test in enumerate(is_test) if not test]
    known = {digests[i] for i in pool}
    return [i for i, test in enumerate(is_test) if test and digests[i] not in known], pool


def _digests(images: ImageSet, flip: bool) -> list[bytes]:
    found = _each(images.pixels, _sha256)
    if flip:  # the smaller of the two hashes is the same for an image and its mirror image
        found = [
            min(pair) for pair in zip(found, _each(images.pixels.flip(-1), _sha256), strict=True)
        ]
    return found


def _each(pixels: Tensor, function: Callable[[memoryview], bytes]) -> list[bytes]:
    return [function(image.data) for image in pixels.contiguous().numpy()]


def _sha256(image: memoryview) -> bytes:
    return hashlib.sha256(image).digest()

"""Splits of a data set, which depend on the content of its images and a seed, not on their order.

Identical images are never in two disjoint splits, so that no held-out image is a training image
under another file name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from dgray.errors import DataError

APART = ("held_out", "validation")


class Splittable(Protocol):
    """Samples that can be divided by their content: images or points."""

    @property
    def name(self) -> str:
        """Name in messages."""
        ...

    @property
    def noun(self) -> str:
        """What they are, in the plural."""
        ...

    @property
    def content(self) -> Tensor:
        """Samples, shape (N, ...), on the CPU."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """Classes, int64 (N,), if there are any."""
        ...

    @property
    def is_test(self) -> Tensor | None:
        """Marks of the test part, bool (N,), if there is one."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...


def split(
    images: Splittable,
    sizes: Mapping[str, int],
    seed: int,
    *,
    flip: bool = False,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Return the indices of every split, int64, in the order of the split.

    ``held_out`` and ``validation`` are disjoint from each other and from all other splits. The
    remaining images are the pool; each other split (``training-0``, ``training-1``, ``base``) is a
    draw of its own from the pool without replacement, so two of them may share images. If the
    data set has a test part (``ImageSet.is_test``), ``held_out`` and ``validation`` come from it,
    and the rest is the pool.

    A split of n images is the first n in an order that depends only on the seed, its name and the
    images. A larger split thus contains a smaller one, and neither ``held_out`` nor ``validation``
    depends on the size of the other unless together they use nearly all images. Splits are not
    stratified.

    Args:
        images: the data set.
        sizes: number of images of each split.
        seed: seed of the study.
        titles: names of the sizes in messages; None: those of the splits.
        flip: treat an image and its mirror image as identical, since training images will be
            mirrored.

    Raises:
        DataError: if a size is negative, or there are too few images.
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

    def title(name: str) -> str:
        return (titles or {}).get(name) or f"the split {name!r}"

    apart = order(candidates, "apart")
    indices: dict[str, Tensor] = {}
    taken: set[bytes] = set()
    for name, ordered in zip(APART, (apart, apart[::-1]), strict=True):
        left = [i for i in ordered if digests[i] not in taken]
        chosen = _first(left, title(name), sizes.get(name, 0), images)
        taken.update(digests[i] for i in chosen)
        indices[name] = torch.tensor(chosen, dtype=torch.int64)
    pool = [i for i in pool if digests[i] not in taken]
    for name in sizes:
        if name not in APART:
            chosen = _first(order(pool, name), title(name), sizes[name], images)
            indices[name] = torch.tensor(chosen, dtype=torch.int64)
    return {name: indices[name] for name in sizes}


def _first(ordered: list[int], title: str, size: int, images: Splittable) -> list[int]:
    if not 0 <= size <= len(ordered):
        raise DataError(
            f"{title} must have from 0 to {len(ordered)} {images.noun}, but its size is {size}: "
            f"the others of the {len(images)} {images.noun} of {images.name} are in other splits, "
            f"identical to one of those, or in the test part of the data set; lower the size of "
            f"{title}, or that of another split"
        )
    return ordered[:size]


def _parts(images: Splittable, digests: list[bytes]) -> tuple[list[int], list[int]]:
    """Return the indices of candidates for held-out and validation images, and of the pool."""
    if images.is_test is None:
        return list(range(len(images))), list(range(len(images)))
    is_test = images.is_test.tolist()
    pool = [i for i, test in enumerate(is_test) if not test]
    in_pool = {digests[i] for i in pool}
    return [i for i, test in enumerate(is_test) if test and digests[i] not in in_pool], pool


def _digests(images: Splittable, flip: bool) -> list[bytes]:
    digests = _sha256_of_each(images.content)
    if flip:  # the smaller hash is the same for an image and its mirror image
        digests = list(map(min, digests, _sha256_of_each(images.content.flip(-1))))
    return digests


def _sha256_of_each(pixels: Tensor) -> list[bytes]:
    return [hashlib.sha256(image.data).digest() for image in pixels.contiguous().numpy()]

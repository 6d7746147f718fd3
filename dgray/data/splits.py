"""Splits of a data set, which depend on the content of its images and a seed, not on their order.

Identical images are never in two disjoint splits, so that no held-out image is a training image
under another file name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from dgray.data.split_orders import digests_of, split_orders
from dgray.errors import DataError


class Splittable(Protocol):
    """Samples that can be divided by their content: images or points."""

    @property
    def name(self) -> str:
        """Name in messages."""
        ...

    @property
    def noun(self) -> str:
        """Name of its samples, in the plural."""
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
    orders = split_orders(
        _digests(images, flip),
        sizes,
        seed,
        labels=None if images.labels is None else images.labels.tolist(),
        is_test=None if images.is_test is None else images.is_test.tolist(),
    )
    indices: dict[str, Tensor] = {}
    for name, order in orders:
        title = (titles or {}).get(name) or f"the split {name!r}"
        chosen = _first(order, title, sizes.get(name, 0), images)
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


def _digests(images: Splittable, flip: bool) -> list[bytes]:
    digests = digests_of(images.content.contiguous().numpy())
    if flip:  # the smaller hash is the same for an image and its mirror image
        mirrored = digests_of(images.content.flip(-1).contiguous().numpy())
        digests = list(map(min, digests, mirrored))
    return digests

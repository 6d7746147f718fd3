"""Random numbers as a function of names: (study seed, what for, which) and nothing else.

The noise of sample seed i is the same however samples are split over batches, workers or trials
(EDM's rule of one generator per sample). Drawn on the CPU, so every device sees the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor


def named_generator(*names: int | str) -> torch.Generator:
    """A CPU generator seeded by a hash of the names, e.g. (seed, "fit", replicate, epoch)."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def seeded_noise(
    seed: int, sample_seeds: Iterable[int], shape: tuple[int, ...], purpose: str = "start"
) -> Tensor:
    """Standard normal numbers, one generator per sample seed and purpose, float64.

    Shape (num_samples, *shape). A sampler's start and its steps are purposes of their own, so that
    a sample starts at the same place whatever the number of steps.
    """
    return _seeded_noise(seed, tuple(sample_seeds), shape, purpose).clone()


@lru_cache(maxsize=4)  # every checkpoint of a study starts its samplers from the same noise
def _seeded_noise(
    seed: int, sample_seeds: tuple[int, ...], shape: tuple[int, ...], purpose: str
) -> Tensor:
    generators = (named_generator(seed, "sample", purpose, i) for i in sample_seeds)
    return torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators])

"""Random numbers as a function of names: (study seed, what for, which) and nothing else.

The noise of sample seed i is the same however samples are split over batches, workers or trials
(EDM's rule of one generator per sample). Drawn on the CPU, so every device sees the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def named_generator(*names: int | str) -> torch.Generator:
    """A CPU generator seeded by a hash of the names, e.g. (seed, "fit", replicate, epoch)."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def global_seed(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators, from which layers draw, and restore them afterwards."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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


def philox_noise(
    seed: int, sample_seeds: Iterable[int], shape: tuple[int, ...], purpose: str = "start"
) -> Tensor:
    """The same for any number of samples: a counter-based stream for each sample seed.

    torch's CPU generator keeps 32 bits of its seed, so that among 50,000 samples two would share
    their noise with a probability of a quarter. Philox (Salmon et al. 2011) takes the sample seed
    as part of its counter, where no two can meet.
    """
    digest = hashlib.sha256(repr((seed, "sample", purpose)).encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    streams = (np.random.Philox(key=key, counter=[0, 0, i, 0]) for i in sample_seeds)
    draws = [np.random.Generator(stream).standard_normal(shape) for stream in streams]
    return torch.from_numpy(np.stack(draws))

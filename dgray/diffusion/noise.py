"""Random numbers that depend on the study seed, a purpose and an index, and on nothing else.

The noise of sample seed i is the same however samples are split over batches, workers or trials
(one generator per sample, as in EDM). It is drawn on the CPU and so the same on every device.
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
    """Return a CPU generator seeded by a hash of names, e.g. (seed, "fit", replicate, epoch)."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; one of the host without a wait for the work on the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


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
    """Draw standard normal numbers, one generator per sample seed and purpose.

    A sampler's start and its steps are two purposes, so the start of a sample does not
    depend on the number of steps.

    Returns:
        float64, shape (num_samples, *shape).
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
    """Draw as ``seeded_noise`` does, with one counter-based stream per sample seed.

    For any number of samples: the CPU generator of torch keeps 32 bits of its seed, so that among
    50,000 samples two share their noise with a probability of 1/4. Philox (Salmon et al. 2011,
    doi:10.1145/2063384.2063405) takes the sample seed as part of its counter, which is unique.
    """
    digest = hashlib.sha256(repr((seed, "sample", purpose)).encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    streams = (np.random.Philox(key=key, counter=[0, 0, i, 0]) for i in sample_seeds)
    draws = [np.random.Generator(stream).standard_normal(shape) for stream in streams]
    return torch.from_numpy(np.stack(draws))

"""Settings of a process that computes: number of threads, and memory that stays in the process."""

from __future__ import annotations

import ctypes
import sys

import torch

# Of glibc's malloc.h. By default it gives freed arrays of more than 128 KB to 32 MB back to the
# system, and the next array of a step takes new pages, each of which costs a page fault.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_KEPT = 2**30 - 1  # bytes
_GROWTH = 2**26  # bytes by which the heap grows


def prepare_process(num_threads: int) -> None:
    """Set the number of torch's threads, and keep freed memory in this process.

    Results depend on the number of threads (rounding), not on the memory. Training steps of
    perceptrons are 10 to 30 % faster (``benchmarks/README.md``).
    """
    torch.set_num_threads(num_threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
            mallopt(_TRIM_THRESHOLD, _LARGEST_KEPT)
            mallopt(_TOP_PAD, _GROWTH)

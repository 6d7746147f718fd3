"""Counts of the restart sampler (``dgray.diffusion.restart``), for plans. No torch."""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[float, float]


def num_draws(
    num_steps: int, *, levels: Sequence[Interval], K: Sequence[int], N: Sequence[int]
) -> int:
    """Return the number of restarts of a sample: the noise that ``restart`` needs."""
    del num_steps, N
    return sum(per_interval(K, levels))


def num_calls(
    num_steps: int, *, levels: Sequence[Interval], K: Sequence[int], N: Sequence[int]
) -> int:
    """Return the denoiser calls of a sample."""
    inner = sum(
        2 * k * n for k, n in zip(per_interval(K, levels), per_interval(N, levels), strict=True)
    )
    return 2 * num_steps - 1 + inner


def per_interval(counts: Sequence[int], levels: Sequence[Interval]) -> list[int]:
    """Return a count for each interval; a single one is that of all."""
    return list(counts) * len(levels) if len(counts) == 1 else list(counts)

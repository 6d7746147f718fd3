"""Restart sampler: alternates large forward noise with the backward ODE.

Xu et al. 2023 (Restart sampling for improving generative processes, arXiv 2306.14878, Algorithm 1;
Section 3.2 for several intervals). Whenever the main backward process has reached the lower end of
a restart interval, noise takes the sample to the upper end, from which the ODE is solved again; K
times. It lies between the deterministic and the stochastic samplers: noise, but few times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from dgray.diffusion.denoiser import levels_of
from dgray.diffusion.restart_counts import Interval, per_interval
from dgray.diffusion.sampler import Denoise, heun_step
from dgray.diffusion.shapes import Sigmas, StepNoise, Vectors
from dgray.diffusion.sigmas import karras_sigmas


def restart(
    denoise: Denoise,
    x: Vectors,
    sigmas: Sigmas,
    noise: StepNoise,
    *,
    levels: Sequence[Interval],
    K: Sequence[int],
    N: Sequence[int],
    corrector: Denoise | None = None,
) -> Vectors:
    """Return samples of the restart sampler, with Heun's method for the ODEs.

    Calls the denoiser 2 num_steps - 1 times, and 2 K N times for each interval.

    Args:
        denoise: see ``dgray.diffusion.sampler.Sampler``.
        x: see ``Sampler``.
        sigmas: see ``Sampler``.
        noise: standard normal, one for each restart, shape (num_draws, n, d).
        levels: restart intervals (low, high). A restart begins at the level of ``sigmas`` that is
            nearest to low and below high; an interval without such a level has none.
        K: restarts of each interval, or of all intervals.
        N: steps of the ODE from high to low, likewise.
        corrector: denoiser of the second stage; None: ``denoise``.
    """
    draws = iter(noise)
    rounded = levels_of(denoise).round
    intervals = _placed(levels, per_interval(K, levels), per_interval(N, levels), sigmas)
    for sigma, next_sigma in pairwise(sigmas.tolist()):
        x = heun_step(denoise, x, sigma, next_sigma, corrector=corrector)
        for low, high, count, steps in intervals:
            if low != next_sigma:
                continue
            inner = karras_sigmas(steps + 1, low, high)[:-1]
            inner[:-1] = rounded(inner[:-1])
            for _ in range(count):
                x = x + math.sqrt(float(inner[0]) ** 2 - low**2) * next(draws)
                for above, below in pairwise(inner.tolist()):
                    x = heun_step(denoise, x, above, below, corrector=corrector)
    return x


def _placed(
    levels: Sequence[Interval], K: Sequence[int], N: Sequence[int], sigmas: Sigmas
) -> list[tuple[float, float, int, int]]:
    """Return (level of ``sigmas``, high, K, N) of each interval, from the highest."""
    placed = []
    for (low, high), count, steps in zip(levels, K, N, strict=True):
        below = [s for s in sigmas[1:].tolist() if 0 < s < high]
        if below:
            placed.append((min(below, key=lambda s: abs(s - low)), high, count, steps))
    return sorted(placed, reverse=True)

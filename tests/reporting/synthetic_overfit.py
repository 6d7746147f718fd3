"""A synthetic overfitting study, from a quadratic model of guidance.

Path KL(w) = base - 2 w gain + w^2 (gain + excess): exact for a fixed gradient. The gain saturates
over epochs; the excess (overfitting) grows with epochs and width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from tests.reporting.synthetic import Member, hash_of, row

EDGES = np.geomspace(0.002, 80, 13)
BASE_KL = 0.656
EPOCHS = (5, 20, 80, 400)
WEIGHTS: tuple[float | None, ...] = (0.25, 0.5, 1.0, 2.0, None)
EXCESS = {"cross_entropy": 2.4, "kl": 0.5}


def members(excess: dict[str, float] = EXCESS) -> list[Member]:
    """base, both controls, and 2 objectives x 3 widths x 2 sizes of data."""
    controls = [
        Member(name, {"fit.objective": name}, weights=WEIGHTS)
        for name in ("oracle", "oscillating")
    ]
    trained = [
        Member(
            objective,
            {"fit.objective": objective, "discriminator.width": width, "data.num_real": real},
            epochs=EPOCHS,
            replicates=3,
            weights=WEIGHTS,
        )
        for objective in excess
        for width in (8, 32, 128)
        for real in (100, 1000)
    ]
    return [Member("base", {}), *controls, *trained]


def gain_and_excess(member: Member, epoch: int, excess: dict[str, float]) -> tuple[float, float]:
    """Coefficients of the quadratic for a member at an epoch."""
    if member.objective == "oracle":
        return BASE_KL, 0.0
    if member.objective == "oscillating":
        return BASE_KL, 0.45
    if member.objective == "base":
        return 0.0, 0.0
    width = member.axes["discriminator.width"]
    scarcity = (100 / member.axes["data.num_real"]) ** 0.8
    gain = 0.6 * (1 - np.exp(-epoch / 12)) * (1 - np.exp(-width / 12))
    return gain, excess[member.objective] * scarcity * (width / 128) ** 0.6 * (epoch / 400)


def _metrics(
    member: Member, epoch: int, weight: float | None, excess: dict[str, float], noise: np.ndarray
) -> dict[str, Any]:
    gain, extra = gain_and_excess(member, epoch, excess)
    curvature = gain + extra
    best = gain / curvature if curvature else 0.0
    w = best if weight is None else weight
    jitter = 0.02 * abs(w) * noise * (member.objective not in ("oracle", "base"))
    path = BASE_KL - 2 * w * gain + w**2 * curvature + jitter[0]
    kl = BASE_KL * 0.96 - 2 * w * gain * 0.95 + w**2 * (gain * 0.95 + 3 * extra) + 2 * jitter[1]
    middle = np.exp(-0.5 * (np.log(EDGES[:-1] * EDGES[1:]) / 2 + 0.5) ** 2 / 2) + 0.01
    low = EDGES[:-1] ** -0.6
    shape = BASE_KL * (1 - w * gain / BASE_KL) ** 2 * middle / middle.sum()
    bins = np.maximum(shape + w**2 * extra * low / low.sum(), 1e-5)
    trained_bins = {
        "loss_train_bins": (1.386 - 0.5 * extra * low / low.max()).tolist(),
        "loss_held_out_bins": (1.386 + 0.3 * extra * low / low.max()).tolist(),
        "loss_train": 1.3 - 0.4 * extra,
        "loss_train_se": 0.005,
        "loss_held_out": 1.3 + 0.2 * extra,
        "loss_held_out_se": 0.01,
        "overfit_gap": 0.6 * extra,
        "num_parameters": 9000,
    }
    is_trained = member.objective in excess
    return {
        **(trained_bins if is_trained else {}),
        "path_kl": path,
        "path_kl_se": 0.01,
        "path_kl_change": path - BASE_KL,
        "path_kl_change_se": 0.012,
        "path_kl_bins": bins.tolist(),
        "kl": kl,
        "kl_se": 0.02,
        "kl_change": kl - BASE_KL * 0.96,
        "kl_change_se": 0.02,
        "kl_unconverged": 0.01 if kl > 4 else 0.0,
        "score_error": bins.mean(),
        "score_error_se": 0.01,
        "score_error_bins": bins.tolist(),
        "validation_change": path - BASE_KL + 0.02 * noise[2] * abs(w),
        "validation_change_se": 0.02,
        "cross_entropy": 1.25 + 0.1 * extra,
        "cross_entropy_gap": 0.02 + 0.1 * extra,
        "cross_entropy_gap_se": 0.003,
        "accuracy": 0.6,
        "calibration_error": 0.02 + 0.1 * extra,
        "sigma_edges": EDGES.tolist(),
        "calibrated_sigmas": np.sqrt(EDGES[:-1] * EDGES[1:]).tolist() if curvature else None,
        "calibrated_weights": (best * (1 - 0.5 * low / low.max())).tolist() if curvature else None,
    }


def _rows(
    member: Member, epoch: int, excess: dict[str, float], seed: np.random.Generator
) -> Iterator[Row]:
    for replicate in range(member.replicates):
        for weight in member.weights:
            noise = seed.standard_normal(3)
            shared = _metrics(member, epoch, weight, excess, noise)
            extra = 0.15 * max(shared["path_kl_change"], 0) + 0.3 * max(shared["path_kl"], 0)
            sde = {
                "kl_sde": 0.03 + extra,
                "kl_sde_se": 0.02,
                "kl_sde_change": extra - 0.3 * BASE_KL,
                "kl_sde_change_se": 0.005,
                "kl_sde_floor": 0.03,
                "kl_sde_floor_se": 0.02,
            }
            sampled = {"kl_sampler": max(shared["path_kl"], 0) * 0.9, "kl_sampler_se": 0.03}
            yield row(member, epoch, weight, replicate=replicate, **(shared | sampled))
            yield row(member, epoch, weight, replicate=replicate, sampler="sde", **(shared | sde))


def _ring(seed: np.random.Generator, spread: float, shift: float) -> list[list[float]]:
    angle = 2 * np.pi * seed.integers(0, 8, 600) / 8
    centres = np.stack([2 * np.cos(angle) + shift, 2 * np.sin(angle)], axis=1)
    return (centres + spread * seed.standard_normal((600, 2))).tolist()


def _clouds(
    member: Member, epoch: int, excess: dict[str, float], seed: np.random.Generator
) -> tuple[Cloud, ...]:
    def cloud(source: str, sampler: str, weight: float | None, *shape: float) -> Cloud:
        return Cloud(
            source=source,
            trial=member.id,
            epoch=epoch,
            is_calibrated=weight is None,
            guidance_weight=weight,
            sampler=sampler,
            points=_ring(seed, *shape),
        )

    if member.objective == "base":
        return (cloud("data", "ode", 0.0, 0.15, 0.0), cloud("base", "ode", 0.0, 0.3, 0.4))
    _, extra = gain_and_excess(member, epoch, excess)
    return tuple(
        cloud("guided", sampler, weight, 0.15 + 0.1 * extra, 0.1)
        for sampler in ("ode", "sde")
        for weight in member.weights
        if weight in (1.0, None)
    )


def _losses(member: Member, epoch: int, excess: dict[str, float]) -> tuple[LossPoint, ...]:
    earlier = [e for e in (0, *EPOCHS) if e < epoch]
    epochs = np.unique(np.linspace(max(earlier, default=0) + 1, epoch, 12).astype(int))
    return tuple(
        LossPoint(
            trial=member.id,
            replicate=replicate,
            epoch=int(e),
            loss_train=0.9 - 0.2 * gain_and_excess(member, int(e), excess)[1],
        )
        for replicate in range(member.replicates)
        for e in (epochs if member.objective in excess else [])
    )


def results(excess: dict[str, float] = EXCESS) -> Iterator[CheckpointResult]:
    """Every checkpoint of the overfit-like study."""
    for member in members(excess):
        for epoch in member.epochs:
            seed = np.random.default_rng([hash_of(member.id), epoch])
            yield CheckpointResult(
                trial=member.id,
                epoch=epoch,
                rows=tuple(_rows(member, epoch, excess, seed)),
                clouds=_clouds(member, epoch, excess, seed),
                losses=_losses(member, epoch, excess),
                state=None,
            )

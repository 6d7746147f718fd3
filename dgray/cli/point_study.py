"""Studies that fit points of a file, as fields of a study file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgray.catalogue import METRICS
from dgray.data.point_files import survey_points
from dgray.errors import DataError

MIN_POINTS = 50
_MAX_REAL, _MAX_APART, _MAX_SAMPLES = 5000, 1000, 1000
_MAX_LIKELIHOOD = 64  # dimensions up to which the exact divergence is fast enough
_EPOCHS = (200, 100, 40)  # of the discriminators, from the largest study


def studies_of_points(name: str, path: Path, label: str | None) -> Iterator[dict[str, Any]]:
    """Yield studies of the points of a file, from the largest.

    Raises:
        MissingFileError: there is no such file.
        DataError: it cannot be used, or has too few points.
    """
    file = path.expanduser().absolute()
    summary = survey_points(str(file), label=label)
    (dimension,) = summary.shape
    count = len(set(summary.digests)) or summary.num_images  # identical points are in one split
    if count < MIN_POINTS:
        raise DataError(
            f"{file}: a study needs at least {MIN_POINTS} different points, for training, "
            f"validation and held-out metrics, but there are {count}; add some"
        )
    num_validation, num_held_out = (min(most, count // 4) for most in (_MAX_APART, _MAX_APART))
    pool = count - num_validation - num_held_out
    num_real, num_samples = min(pool, _MAX_REAL), min(_MAX_SAMPLES, num_held_out)
    names = ["path_kl", "nll", "fd", "precision", "recall", "kl_sde", "memorisation"]
    metrics = [n for n in names if _applies(n, dimension, num_samples)]
    if num_held_out < num_real and "memorisation" in metrics:
        metrics.remove("memorisation")
    conditional = {"conditional": True} if label is not None else {}
    for epochs in _EPOCHS:
        yield {
            "name": name,
            "description": "Does guidance improve the base, and with which objective?",
            "replicates": 2,
            "diffusion": {"sigma_min": 0.02, "sigma_max": 20},
            "data": {
                "kind": "points",
                "path": str(file),
                **({"label": label} if label is not None else {}),
                "num_real": num_real,
                "num_validation": num_validation,
                "num_held_out": num_held_out,
            },
            "base": {
                "kind": "trained",
                **conditional,
                "num_real": pool,
                "num_generated": num_real,
            },
            "discriminator": {"width": 64, "depth": 2, **conditional},
            "fit": {
                "objective": ["cross_entropy", "kl"],
                "epochs": epochs,
                "checkpoints": [epochs // 4, epochs],
                "batch_size": min(100, num_real),
            },
            "evaluate": {
                "guidance_weight": [0.5, 1, "calibrated"],
                "sampler": ["ode", "sde"],
                "metrics": metrics,
                "num_points": min(200, num_held_out),
                "num_samples": num_samples,
            },
        }


def _applies(name: str, dimension: int, num_samples: int) -> bool:
    metric = METRICS[name]
    if name == "nll" and dimension > _MAX_LIKELIHOOD:
        return False
    if name == "fd" and num_samples <= dimension:
        return False
    return metric.is_defined_in(dimension) and metric.min_samples <= num_samples

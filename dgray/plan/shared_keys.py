"""Keys of shared artifacts: a role and a hash of the fields of the study that define it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dgray.config.reading.relevance import without_added
from dgray.config.study import StudyConfig


def images_key(config: StudyConfig) -> str:
    """Return the key of the images of a study with their splits."""
    return _key("images", _splits(config))


def points_key(config: StudyConfig) -> str:
    """Return the key of the points of a file with their splits."""
    return _key("points", _splits(config))


def base_key(config: StudyConfig) -> str:
    """Return the key of the weights of a base that is a network."""
    defining = _defining(config)
    defining["base"].pop("precision", None)  # of its use, not of its weights
    return _key("base", defining)


def generated_key(config: StudyConfig) -> str:
    """Return the key of the samples of a network base, for all splits."""
    sizes = {
        "replicates": config.replicates,
        "num_generated": config.base.num_generated,
        "num_validation": config.data.num_validation,
        "num_held_out": config.data.num_held_out,
    }
    if config.data.sample_kind == "images":  # batches of other sizes round differently
        sizes |= config.evaluate.model_dump(include={"batch_size", "shard_size"})
    return _key("generated", {**_defining(config), **sizes})


def cnn_key(config: StudyConfig) -> str:
    """Return the key of the classifier in whose features images are compared."""
    return _key("cnn", _pool(config))


def features_key(config: StudyConfig) -> str:
    """Return the key of the features of held-out and training images."""
    extractor = config.evaluate.model_dump(include={"features", "inception_weights", "batch_size"})
    return _key("features", {**_pool(config), **extractor})


def inception_key(config: StudyConfig) -> str:
    """Return the key of the file of Inception weights, as read at first use."""
    return _key("inception", config.evaluate.model_dump(include={"features", "inception_weights"}))


def statistics_key(config: StudyConfig) -> str:
    """Return the key of the file of mean and covariance that ``evaluate.reference`` names."""
    return _key("statistics", config.evaluate.model_dump(include={"reference"}))


def likelihood_key(config: StudyConfig, split: str = "held_out") -> str:
    """Return the key of the log-densities of the unguided base at points of a split."""
    fields = {"num_points", "tolerance", "max_steps"}
    settings = config.evaluate.model_dump(include=fields)
    held_out = {"num_held_out": config.data.num_held_out}
    if split != "held_out":
        held_out = {"num_validation": config.data.num_validation}
    return _key("likelihood", {**_defining(config), **settings, **held_out})


def _splits(config: StudyConfig) -> dict[str, Any]:
    """Return the fields that determine the data and their splits."""
    sizes = {"replicates": config.replicates, "num_base": getattr(config.base, "num_real", 0)}
    return {"seed": config.seed, "data": config.data.model_dump(), **sizes}


def _pool(config: StudyConfig) -> dict[str, Any]:
    """Return the fields that determine which images are held out; training splits do not."""
    return {"seed": config.seed, "data": config.data.model_dump(exclude={"num_real"})}


def _defining(config: StudyConfig) -> dict[str, Any]:
    """Return the fields that determine the base denoiser."""
    sizes = {"num_real", "num_validation", "num_held_out"}
    return without_added(
        {
            "seed": config.seed,
            "diffusion": config.diffusion.model_dump(),
            "data": config.data.model_dump(exclude=sizes),
            "base": config.base.model_dump(exclude={"num_generated"}),
        }
    )


def _key(role: str, content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return f"{role}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

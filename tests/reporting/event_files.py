"""Event files, read back with the reader of TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2


def read(folder: Path) -> EventAccumulator:
    """Read the event files of a run."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def hparams(folder: Path) -> dict[str, Any]:
    """Return the hyperparameters of a run."""
    content = read(folder).summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    kinds = ("number_value", "string_value")
    return {
        name: next(getattr(value, kind) for kind in kinds if value.HasField(kind))
        for name, value in info.hparams.items()
    }


def columns(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the columns of the HPARAMS tab (name -> values or range) and the tags of metrics."""
    content = read(folder).summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    domains = {}
    for info in experiment.hparam_infos:
        if info.HasField("domain_interval"):
            ends = info.domain_interval
            domains[info.name] = (ends.min_value, ends.max_value)
        else:
            values = info.domain_discrete.values
            domains[info.name] = [v.string_value or v.number_value for v in values]
    return domains, [info.name.tag for info in experiment.metric_infos]

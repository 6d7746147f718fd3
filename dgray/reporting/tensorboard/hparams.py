"""TensorBoard's hparams tab, from its protobufs (its own writer needs TensorFlow)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Value  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2


@dataclass(frozen=True)
class Interval:
    """Values of a column that a search draws."""

    low: float
    high: float


Axes = Mapping[str, Sequence[Any] | Interval]  # column -> values that occur


def hparams_of(objective: str, axes: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial is called in the tab: its objective and its axes, where they have a value."""
    named = {k: v for k, v in axes.items() if k != "fit.objective" and v is not None}
    return {"objective": objective} | named


def experiment(axes: Axes, metrics: Sequence[str]) -> Summary:
    """Columns of the tab."""
    infos = [_info(name, values) for name, values in axes.items()]
    columns = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag) for tag in metrics
    ]
    content = api_pb2.Experiment(hparam_infos=infos, metric_infos=columns)
    return _summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=content))


def session_start(values: Mapping[str, Any], group: str) -> Summary:
    """A trial's line."""
    info = plugin_data_pb2.SessionStartInfo(group_name=group)
    for name, value in values.items():
        info.hparams[name].CopyFrom(_value(value))
    content = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _summary(metadata.SESSION_START_INFO_TAG, content)


def session_end() -> Summary:
    """The line counts as finished at once: its numbers are the best so far."""
    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.STATUS_SUCCESS)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return _summary(metadata.SESSION_END_INFO_TAG, content)


def _info(name: str, values: Sequence[Any] | Interval) -> api_pb2.HParamInfo:
    if isinstance(values, Interval):
        interval = api_pb2.Interval(min_value=values.low, max_value=values.high)
        return api_pb2.HParamInfo(
            name=name, type=api_pb2.DATA_TYPE_FLOAT64, domain_interval=interval
        )
    given = [_value(value) for value in values]
    kinds = {value.WhichOneof("kind") for value in given}
    kind = api_pb2.DATA_TYPE_STRING
    if kinds == {"number_value"}:
        kind = api_pb2.DATA_TYPE_FLOAT64
    return api_pb2.HParamInfo(
        name=name, type=kind, domain_discrete=ListValue(values=given) if given else None
    )


def _value(value: Any) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Value(number_value=float(value))
    return Value(string_value=value if isinstance(value, str) else json.dumps(value))


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    plugin = metadata.create_summary_metadata(content).plugin_data
    summary_metadata = SummaryMetadata(plugin_data=plugin)
    value = Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])

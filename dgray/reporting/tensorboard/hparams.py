"""Summaries of TensorBoard's HPARAMS tab, as protocol buffers.

TensorBoard's own functions for them need TensorFlow or one type per column; those of tensorboardX
have no columns with intervals and change the tags of scalars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Value  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from dgray.reporting.selection import OBJECTIVE


@dataclass(frozen=True)
class Interval:
    """Range of a column whose values a search draws."""

    low: float
    high: float


Axes = Mapping[str, Sequence[Any] | Interval]  # column -> its values


def hparams_of(objective: str, axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a trial: its objective and the axes that have a value."""
    named = {k: v for k, v in axes.items() if k != OBJECTIVE and v is not None}
    return {"objective": objective} | named


def experiment(axes: Axes, metrics: Sequence[str]) -> Summary:
    """Return the summary that declares the columns of the tab."""
    infos = [_info(name, values) for name, values in axes.items()]
    columns = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag) for tag in metrics
    ]
    content = api_pb2.Experiment(hparam_infos=infos, metric_infos=columns)
    return _summary(metadata.EXPERIMENT_TAG, experiment=content)


def session(values: Mapping[str, Any], group: str) -> tuple[Summary, Summary]:
    """Return the summaries that start and end the session of a trial.

    A session ends as soon as it has started, because its numbers are the best ones so far.
    """
    start = plugin_data_pb2.SessionStartInfo(group_name=group)
    for name, value in values.items():
        start.hparams[name].CopyFrom(_value(value))
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.STATUS_SUCCESS)
    return (
        _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start),
        _summary(metadata.SESSION_END_INFO_TAG, session_end_info=end),
    )


def _info(name: str, values: Sequence[Any] | Interval) -> api_pb2.HParamInfo:
    if isinstance(values, Interval):
        interval = api_pb2.Interval(min_value=values.low, max_value=values.high)
        return api_pb2.HParamInfo(
            name=name, type=api_pb2.DATA_TYPE_FLOAT64, domain_interval=interval
        )
    choices = [_value(value) for value in values]
    is_numeric = {value.WhichOneof("kind") for value in choices} == {"number_value"}
    return api_pb2.HParamInfo(
        name=name,
        type=api_pb2.DATA_TYPE_FLOAT64 if is_numeric else api_pb2.DATA_TYPE_STRING,
        domain_discrete=ListValue(values=choices) if choices else None,
    )


def _value(value: Any) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Value(number_value=float(value))
    return Value(string_value=value if isinstance(value, str) else json.dumps(value))


def _summary(tag: str, **content: Any) -> Summary:
    data = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    plugin = SummaryMetadata(plugin_data=data.plugin_data)
    value = Summary.Value(tag=tag, metadata=plugin, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])

"""Row of the table of a study: (trial, replicate, epoch, setting), metrics, and their columns.

``Row`` documents the columns that identify a row and those that describe how it was run; those of
metrics follow from the catalogue. ``docs/parquet_schema.md`` is generated from both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from dgray.catalogue import (
    COST_COLUMNS,
    DISCRIMINATOR_COLUMNS,
    METRIC_COLUMNS,
    VALIDATION_COLUMNS,
    ColumnKind,
    ColumnSpec,
)

Value = float | int | list[float]
_TYPES: dict[str, Literal["float", "int", "bool", "text"]] = {
    "float": "float",
    "int": "int",
    "bool": "bool",
    "str": "text",
}


def identity(doc: str, **default: Any) -> Any:
    """Return a field of ``Row`` that is part of its key."""
    return field(**default, metadata={"doc": doc, "kind": "identity"})


def provenance(doc: str, *, unit: str = "") -> Any:
    """Return a field of ``Row`` that differs from run to run."""
    return field(default=None, metadata={"doc": doc, "unit": unit, "kind": "provenance"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluated setting. ``None`` means: not requested, or not defined for this setting."""

    trial: str = identity(
        "id of the trial: objective or correction, and a hash of its resolved configuration"
    )
    label: str = identity("name of the trial in words: objective and values on the axes")
    objective: str = identity(
        "objective of the discriminator for guidance; the correction, if it has a loss of its "
        "own; else correction-objective; base for the unguided model"
    )
    correction: str = identity(
        "correction of the base; guidance in rows of a run before there were others, and base for "
        "the unguided model",
        default="guidance",
    )
    axes: str = identity("JSON object: training axis (dotted path) -> value of this trial")
    replicate: int = identity("index of the replicate: its own data, initial weights and noise")
    epoch: int = identity("passes over the real training samples; 0 for base and controls")
    is_calibrated: bool = identity("true if the guidance weight is calibrated(sigma)")
    guidance_weight: float | None = identity(
        "constant guidance weight w: 0 = off, 1 = exact correction; null if calibrated",
        default=None,
    )
    sampler: str = identity("name of the sampler")
    num_steps: int = identity("steps of the sampler, for the metrics of samples")
    guided_stage: str = identity("both, or predictor: only the first stage of Heun is guided")
    interval_low: float | None = identity("lowest sigma at which guidance acts", default=None)
    interval_high: float | None = identity("highest sigma at which guidance acts", default=None)
    status: str = identity("ok or failed", default="ok")
    reason: str | None = provenance("reason of a failure")
    num_scored: int | None = provenance("samples that were scored in features")
    num_reference: int | None = provenance("reference images")
    num_single_features: int | None = provenance(
        "generated images whose single features were read (kid, precision, recall, ...)"
    )
    features: str | None = provenance("name of the features")
    features_resize: str | None = provenance("method by which images were resized for them")
    features_sha256: str | None = provenance("SHA-256 of the feature extractor")
    reference: str | None = provenance("images that samples were compared with")
    seconds_fit: float | None = provenance(
        "training time since the last checkpoint, all replicates; 0 if a stored state was "
        "evaluated again",
        unit="s",
    )
    seconds_evaluate: float | None = provenance(
        "evaluation time of this checkpoint, all replicates and settings", unit="s"
    )
    host: str | None = provenance("machine that ran it")
    device: str | None = provenance("torch device that ran it")
    finished_at: str | None = provenance("end of the evaluation, UTC")
    copied_from: str | None = provenance(
        "run that computed it and when, if it was copied from the result cache"
    )
    metrics: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def from_columns(cls, values: Mapping[str, Any]) -> Row:
        """Build a row from its columns; those without a field of ``Row`` are metrics."""
        own = {name: values[name] for name in OWN_COLUMNS if name in values}
        metrics = {
            name: value
            for name, value in values.items()
            if name not in OWN_COLUMNS and value is not None
        }
        return cls(**own, metrics=metrics)

    def columns(self) -> dict[str, Any]:
        """Return all its columns by name, without metrics that it lacks."""
        return {name: getattr(self, name) for name in OWN_COLUMNS} | dict(self.metrics)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a column, None if the row lacks it."""
        return getattr(self, name) if name in OWN_COLUMNS else self.metrics.get(name)


def _own_columns() -> dict[str, ColumnSpec]:
    hints = get_type_hints(Row)
    columns = {}
    for item in dataclasses.fields(Row):
        if item.name == "metrics":
            continue
        type_name = str(getattr(hints[item.name], "__name__", hints[item.name])).split(" |")[0]
        columns[item.name] = ColumnSpec(
            name=item.name,
            **item.metadata,
            type=_TYPES[type_name],
            is_required="None" not in str(hints[item.name]),
            has_error=False,
        )
    return columns


OWN_COLUMNS: Mapping[str, ColumnSpec] = _own_columns()


def row_columns(added: Sequence[ColumnSpec] = ()) -> list[ColumnSpec]:
    """Return the columns of a table of rows, in order.

    Args:
        added: columns of metrics that are not of dgray.
    """
    own = list(OWN_COLUMNS.values())
    names = list(OWN_COLUMNS)
    features, run = names.index("num_scored"), names.index("seconds_fit")
    return [
        *own[:features],
        *METRIC_COLUMNS,
        *own[features:run],
        *VALIDATION_COLUMNS,
        *DISCRIMINATOR_COLUMNS,
        *COST_COLUMNS,
        *own[run:],
        *added,
    ]


def column_names(*kinds: ColumnKind) -> list[str]:
    """Return the names of the columns of these kinds, in table order."""
    return [column.name for column in row_columns() if column.kind in kinds]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Samples of the first replicate at one checkpoint, or of the data or the base.

    Attributes:
        source: ``data``, ``real`` (training samples), ``base``, ``guided``, or ``nearest``: the
            training image nearest to each guided image of the same setting.
        points: shape (n, d); of images bytes, 0 to 255.
        shape: (C, H, W) of images.
    """

    source: str
    trial: str
    epoch: int
    is_calibrated: bool
    guidance_weight: float | None
    sampler: str
    points: list[list[float]]
    shape: list[int] | None = None


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """Mean training loss of one replicate over the epochs since the last point.

    It is the loss as optimised: with distribution of noise levels, weighting, penalty and dropout
    of the training.
    """

    trial: str
    replicate: int
    epoch: int
    loss_train: float


@dataclass(frozen=True, kw_only=True)
class CheckpointResult:
    """Results of a trial at one checkpoint.

    Attributes:
        state: training state from which the trial is resumed (safetensors).
        columns: columns of the rows that belong to metrics of other packages.
    """

    trial: str
    epoch: int
    rows: tuple[Row, ...]
    clouds: tuple[Cloud, ...]
    losses: tuple[LossPoint, ...]
    state: bytes | None
    columns: tuple[ColumnSpec, ...] = ()


# Returns epoch and content of the newest stored training state at or before an epoch, if any.
Resume = Callable[[int], tuple[int, bytes] | None]
# Called between two checkpoints with an epoch, and a function that returns the state there.
Save = Callable[[int, Callable[[], bytes]], None]


def no_state(epoch: int) -> None:
    """Return no training state: the training starts from the beginning."""

"""Columns of rows: those of the metrics, of the discriminator, of costs and of settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dgray.catalogue.column import ColumnSpec
from dgray.catalogue.metrics import METRICS
from dgray.catalogue.spec import MetricSpec

_DISCRIMINATOR = (
    ColumnSpec(
        name="loss_train",
        doc="objective of the trial on the training split, log-uniform noise, unweighted",
        unit="nats",
    ),
    ColumnSpec(name="loss_held_out", doc="the same on the held-out split", unit="nats"),
    ColumnSpec(
        name="loss_train_bins",
        doc="loss_train by noise-level bin",
        unit="nats",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(
        name="loss_held_out_bins",
        doc="loss_held_out by noise-level bin",
        unit="nats",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(name="overfit_gap", doc="loss_held_out - loss_train", unit="nats"),
    ColumnSpec(
        name="cross_entropy",
        doc="held-out cross-entropy of every objective (ln 4: uninformed)",
        unit="nats",
    ),
    ColumnSpec(
        name="cross_entropy_gap",
        doc="cross_entropy minus that of the exact log-ratio, paired",
        unit="nats",
    ),
    ColumnSpec(name="accuracy", doc="held-out accuracy, real against generated"),
    ColumnSpec(
        name="calibration_error",
        doc="expected calibration error of the probabilities, held-out, 15 bins",
        has_error=False,
    ),
    ColumnSpec(
        name="sigma_edges",
        doc="edges of the noise-level bins (sigma)",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(
        name="calibrated_sigmas",
        doc="knots of the calibrated guidance weight (sigma)",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(
        name="calibrated_weights",
        doc="calibrated guidance weight at those knots; 0 at all of them without a significant "
        "improvement on the validation split",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(
        name="stopped_epoch",
        doc="epoch whose weights early stopping kept; otherwise null",
        type="int",
        has_error=False,
    ),
    ColumnSpec(
        name="num_parameters",
        doc="parameters of one discriminator",
        type="int",
        has_error=False,
    ),
)
COST_COLUMNS = (
    ColumnSpec(
        name="train_flops",
        doc="floating-point operations of the training of one replicate up to this epoch, counted "
        "by torch; null for base and controls",
        type="int",
        has_error=False,
    ),
    ColumnSpec(
        name="sample_calls",
        doc="denoiser calls of one sample; expected where they are random",
        type="int",
        has_error=False,
    ),
    ColumnSpec(
        name="sample_calls_bins",
        doc="sample_calls by noise-level bin, levels outside counted in the outermost bins",
        type="floats",
        has_error=False,
    ),
    ColumnSpec(
        name="sample_flops",
        doc="floating-point operations of one sample, counted by torch",
        type="int",
        has_error=False,
    ),
)


def with_errors(columns: Iterable[ColumnSpec]) -> Iterator[ColumnSpec]:
    """Yield every column once by name, each followed by those of its standard error."""
    for column in {column.name: column for column in columns}.values():
        yield column
        if column.error_column is not None:
            yield column.error_column
        if column.parts_column is not None:
            yield column.parts_column


def validation_columns(metrics: Iterable[MetricSpec]) -> Iterator[ColumnSpec]:
    """Yield the columns of the validation split, those that are always computed first."""
    for metric in sorted(metrics, key=lambda metric: not metric.is_always_computed):
        for column in metric.columns:
            if column.validation_column is not None:
                yield column.validation_column


METRIC_COLUMNS = tuple(
    with_errors(column for metric in METRICS.built_in for column in metric.columns)
)
DISCRIMINATOR_COLUMNS = tuple(with_errors(_DISCRIMINATOR))
VALIDATION_COLUMNS = tuple(with_errors(validation_columns(METRICS.built_in)))
SETTING_COLUMNS = (  # of the setting of a corrected model, see ``dgray.plan.plan.Setting``
    "is_calibrated",
    "guidance_weight",
    "sampler",
    "num_steps",
    "guided_stage",
    "interval_low",
    "interval_high",
)

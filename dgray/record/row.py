"""One line of a study's table: (trial, replicate, epoch, weight, sampler) and its metrics.

``Row`` is the single source of the Parquet schema: every column states its unit and meaning here,
and ``docs/parquet_schema.md`` is generated from it. Knows neither torch nor Ray.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["identity", "metric", "provenance"]


def column(doc: str, *, unit: str = "", kind: Kind = "metric", default: Any = None) -> Any:
    """A dataclass field with its documentation; ``default`` is what a row has without it."""
    return field(default=default, metadata={"doc": doc, "unit": unit, "kind": kind})


def required(doc: str) -> Any:
    """An identity column: part of the key of a row, never missing."""
    return field(metadata={"doc": doc, "unit": "", "kind": "identity"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluated setting. ``None`` means: not asked for, or not defined for this setting."""

    # What was run.
    trial: str = required("id of the trial: objective and a hash of its resolved configuration")
    label: str = required("the trial in words: objective and its axes")
    objective: str = required(
        "base (unguided), cross_entropy, kl, mixed, or a control: oracle, oscillating"
    )
    axes: str = required("JSON object: training axis (dotted path) -> value of this trial")
    replicate: int = required("index of the replicate: its own data, initial weights and noise")
    epoch: int = required("passes over the real training samples; 0 for base and controls")
    is_calibrated: bool = required("the guidance weight is calibrated(sigma), not a constant")
    guidance_weight: float | None = column(
        "constant weight w: 0 = off, 1 = exact correction; null when calibrated", kind="identity"
    )
    sampler: str = required("ode (Heun), churn (EDM stochastic) or sde (reverse SDE)")
    num_steps: int = required("steps of the sampler, for the metrics of samples")
    guided_stage: str = required("both, or predictor: only Heun's first stage is guided")
    interval_low: float | None = column("guidance acts at sigma >= this", kind="identity")
    interval_high: float | None = column("guidance acts at sigma <= this", kind="identity")
    status: str = column("ok or failed", kind="identity", default="ok")
    reason: str | None = column("why the trial failed", kind="provenance")

    # KL divergences to the data, on the held-out split.
    kl: float | None = column("KL(data, model of the probability-flow ODE)", unit="nats")
    kl_se: float | None = column("its standard error over held-out points", unit="nats")
    kl_unconverged: float | None = column(
        "share of held-out points whose integration missed the tolerance; above 0 kl is suspect"
    )
    kl_change: float | None = column("kl minus the base's, paired on points", unit="nats")
    kl_change_se: float | None = column("its standard error", unit="nats")
    nll: float | None = column(
        "negative log-likelihood of dequantised held-out images, probability-flow ODE", unit="nats"
    )
    nll_se: float | None = column("its standard error over images", unit="nats")
    bits_per_dim: float | None = column("the same, of bytes", unit="bits per dimension")
    bits_per_dim_se: float | None = column("its standard error", unit="bits per dimension")
    path_kl: float | None = column("path-space KL of the reverse SDE (Girsanov)", unit="nats")
    path_kl_se: float | None = column("its standard error over held-out points", unit="nats")
    path_kl_bins: list[float] | None = column("path_kl by noise-level bin", unit="nats")
    path_kl_bins_se: list[float] | None = column("their standard errors", unit="nats")
    path_kl_change: float | None = column(
        "path_kl minus the base's, paired on points and noise", unit="nats"
    )
    path_kl_change_se: float | None = column("its standard error", unit="nats")
    path_kl_change_bins: list[float] | None = column(
        "path_kl_change by noise-level bin", unit="nats"
    )
    path_kl_change_bins_se: list[float] | None = column("their standard errors", unit="nats")
    score_error: float | None = column(
        "E|sigma (score of data - guided score)|^2, averaged over log sigma"
    )
    score_error_se: float | None = column("its standard error")
    score_error_bins: list[float] | None = column("score_error by noise-level bin")
    score_error_bins_se: list[float] | None = column("their standard errors")
    kl_sde: float | None = column(
        "KL(data, samples of this stochastic sampler), nearest neighbours", unit="nats"
    )
    kl_sde_se: float | None = column("its standard error", unit="nats")
    kl_sde_change: float | None = column(
        "kl_sde minus that of the base's samples by the same sampler, paired on points and seeds",
        unit="nats",
    )
    kl_sde_change_se: float | None = column("its standard error", unit="nats")
    kl_sde_floor: float | None = column(
        "the same estimate with fresh data for samples: what a perfect sampler would score",
        unit="nats",
    )
    kl_sde_floor_se: float | None = column("its standard error", unit="nats")
    kl_sampler: float | None = column(
        "KL(samples of this very sampler, data), by its accumulated log-determinant", unit="nats"
    )
    kl_sampler_se: float | None = column("its standard error", unit="nats")
    kl_sampler_folded: float | None = column(
        "share of samples with a step that folds space over itself; above 0 kl_sampler is missing"
    )
    memorisation: float | None = column(
        "share of samples nearer to a training than to a held-out point, minus 1/2"
    )
    memorisation_se: float | None = column("its standard error over samples, given the points")

    # Samples compared with the data in features (images).
    fid: float | None = column("Frechet distance of Inception-v3 features to the reference")
    fid_se: float | None = column("its standard error, jackknife over blocks of samples")
    fd: float | None = column("the same of other features; report.parquet names it fd_<features>")
    fd_se: float | None = column("its standard error, jackknife over blocks of samples")
    fd_floor: float | None = column(
        "the distance (fid or fd) of all images not held out to the reference"
    )
    kid: float | None = column("kernel distance of features, cubic kernel, unbiased")
    kid_se: float | None = column("its standard error over subsets")
    precision: float | None = column("share of samples within the reference's manifold, k = 3")
    precision_se: float | None = column("its standard error over samples")
    recall: float | None = column("share of the reference within the samples' manifold, k = 3")
    recall_se: float | None = column("its standard error over reference images")
    density: float | None = column("density of samples in the reference's manifold, k = 5")
    density_se: float | None = column("its standard error over samples")
    coverage: float | None = column("share of the reference with a sample nearby, k = 5")
    coverage_se: float | None = column("its standard error over reference images")
    num_scored: int | None = column("samples that were scored in features", kind="provenance")
    num_reference: int | None = column("reference images", kind="provenance")
    features: str | None = column("the features' name", kind="provenance")
    features_resize: str | None = column("how images were resized for them", kind="provenance")
    features_sha256: str | None = column("SHA-256 of the extractor", kind="provenance")
    reference: str | None = column("what samples were compared with", kind="provenance")

    # What selects.
    validation_change: float | None = column(
        "change of the validation split's denoising error (estimates path_kl_change): selects",
        unit="nats",
    )
    validation_change_se: float | None = column("its standard error", unit="nats")
    validation_kl: float | None = column(
        "kl on the validation split: what a search may look at", unit="nats"
    )
    validation_kl_se: float | None = column("its standard error", unit="nats")
    validation_kl_change: float | None = column("kl_change on the validation split", unit="nats")
    validation_kl_change_se: float | None = column("its standard error", unit="nats")
    validation_nll: float | None = column("nll on the validation split", unit="nats")
    validation_nll_se: float | None = column("its standard error", unit="nats")
    validation_kl_sde: float | None = column("kl_sde to the validation split", unit="nats")
    validation_kl_sde_se: float | None = column("its standard error", unit="nats")
    validation_fid: float | None = column("fid to the validation split")
    validation_fid_se: float | None = column("its standard error")
    validation_fd: float | None = column("fd to the validation split")
    validation_fd_se: float | None = column("its standard error")

    # The discriminator itself.
    loss_train: float | None = column(
        "its objective on the training split, log-uniform noise, unweighted", unit="nats"
    )
    loss_train_se: float | None = column("its standard error", unit="nats")
    loss_held_out: float | None = column("the same on the held-out split", unit="nats")
    loss_held_out_se: float | None = column("its standard error", unit="nats")
    loss_train_bins: list[float] | None = column("loss_train by noise-level bin", unit="nats")
    loss_held_out_bins: list[float] | None = column("loss_held_out by bin", unit="nats")
    overfit_gap: float | None = column("loss_held_out - loss_train", unit="nats")
    overfit_gap_se: float | None = column("its standard error", unit="nats")
    cross_entropy: float | None = column(
        "held-out cross-entropy, whatever the objective (ln 4 = uninformed)", unit="nats"
    )
    cross_entropy_se: float | None = column("its standard error", unit="nats")
    cross_entropy_gap: float | None = column(
        "cross_entropy minus that of the exact log-ratio, paired", unit="nats"
    )
    cross_entropy_gap_se: float | None = column("its standard error", unit="nats")
    accuracy: float | None = column("held-out accuracy, real against generated")
    accuracy_se: float | None = column("its standard error")
    calibration_error: float | None = column(
        "expected calibration error of its probabilities, held-out, 15 bins"
    )
    sigma_edges: list[float] | None = column("edges of the noise-level bins (sigma)")
    calibrated_sigmas: list[float] | None = column("knots of the calibrated weight (sigma)")
    calibrated_weights: list[float] | None = column("calibrated weight at those knots")
    stopped_epoch: int | None = column("epoch whose weights early stopping kept; else null")
    num_parameters: int | None = column("parameters of one discriminator")

    # How it was run: never part of a comparison of results.
    seconds_fit: float | None = column(
        "training since the last checkpoint, all replicates", unit="s", kind="provenance"
    )
    seconds_evaluate: float | None = column(
        "evaluation of this checkpoint, all replicates and weights", unit="s", kind="provenance"
    )
    host: str | None = column("machine that ran it", kind="provenance")
    device: str | None = column("torch device that ran it", kind="provenance")
    finished_at: str | None = column("end of the evaluation, UTC", kind="provenance")
    copied_from: str | None = column(
        "run that computed it and when, if it came from the result cache", kind="provenance"
    )


def column_names(*kinds: Kind) -> list[str]:
    """Names of the columns of these kinds, in table order."""
    return [f.name for f in dataclasses.fields(Row) if f.metadata["kind"] in kinds]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Samples to look at: one replicate at one checkpoint, or the data and the base themselves."""

    source: str  # "data", "real" (training points), "base", "guided", or "nearest" (see below)
    trial: str
    epoch: int
    is_calibrated: bool
    guidance_weight: float | None
    sampler: str
    points: list[list[float]]  # (n, d); of images bytes, 0 to 255
    shape: list[int] | None = None  # (C, H, W) of images

    # "nearest": of images, the training image nearest to each guided one of the same setting.


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """Mean training loss over the epochs since the last point, one replicate.

    As it was optimised: with the training's noise law, weighting, penalty and dropout.
    """

    trial: str
    replicate: int
    epoch: int
    loss_train: float


@dataclass(frozen=True, kw_only=True)
class CheckpointResult:
    """All that a trial reports at one checkpoint; ``state`` resumes its training (safetensors)."""

    trial: str
    epoch: int
    rows: tuple[Row, ...]
    clouds: tuple[Cloud, ...]
    losses: tuple[LossPoint, ...]
    state: bytes | None

"""Path KL of one correction at one checkpoint, at all of its weights, and calibrated weights.

Each function returns columns of a row by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgray.correction.calibration import (
    Calibration,
    GuidanceMoments,
    calibrate,
    calibrate_constant,
    uncertified,
)
from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.linear import LinearCorrection, Secant, scaled_change
from dgray.correction.mmd_weight import mmd_weight
from dgray.correction.weight import ConstantWeight, Weight
from dgray.diffusion.denoiser import Denoiser
from dgray.metrics.estimate import Estimate
from dgray.metrics.observable import DivergenceFreeMoments
from dgray.metrics.path import (
    NoiseRange,
    PathDivergence,
    PathLevel,
    PathMoments,
    path_divergence,
    squared_norm,
)
from dgray.plan.plan import Setting
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Calibrated, Columns, Interval, acting_weight, in_interval
from dgray.trial.score_correction import estimate_columns, fit_columns, observable_columns
from dgray.trial.score_selection import score_selected_paths

WHOLE = ConstantWeight(1.0)
GRID = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)  # constant weights to choose from


def as_linear(correction: Correction, base: Denoiser) -> LinearCorrection:
    """Return a correction that is linear in its weight, equal to the other one at weight 1."""
    if isinstance(correction, LinearCorrection):
        return correction
    return Secant(base, correction, WHOLE)


def score_paths(
    correction: Correction, sets: EvaluationSet, settings: Sequence[Setting], change: Tensor
) -> tuple[dict[Setting, Columns], Calibrated]:
    """Return the path KL of each setting and the calibrated weight of each guidance interval.

    Args:
        correction: correction of one replicate.
        sets: noised splits.
        settings: settings of the trial.
        change: sigma times its change of the score at weight 1 on ``sets.held_out.real``,
            (N, S, d).
    """
    if isinstance(correction, SamplerCorrection):
        return score_selected_paths(correction, sets, settings)
    if not isinstance(correction, LinearCorrection):
        return _secant_paths(correction, sets, settings)
    fits, validation = calibrations(correction, sets, {s.interval for s in settings})
    calibrated = {interval: fit.weight for interval, fit in fits.items()}
    moments = sets.path_moments(change)
    hidden = sets.divergence_free_moments(correction)
    by_weight: dict[Weight, Columns] = {}  # samplers share those of their weights
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        weight = acting_weight(setting, calibrated)
        if weight not in by_weight and setting.is_calibrated:
            fit = fits[setting.interval]
            by_weight[weight] = {
                **score_calibrated_path(moments, fit, setting.interval, sets.span, hidden),
                **fit_columns(fit),
            }
        elif weight not in by_weight:
            by_weight[weight] = score_path(moments, weight, validation, sets.span, hidden)
        columns[setting] = by_weight[weight]
    return columns, calibrated


def _secant_paths(
    correction: Correction, sets: EvaluationSet, settings: Sequence[Setting]
) -> tuple[dict[Setting, Columns], Calibrated]:
    """Return the same of a correction that is not linear, weight by weight."""
    intervals = {s.interval for s in settings if s.is_calibrated}
    fits = {interval: _best_constant(correction, sets, interval) for interval in intervals}
    calibrated = {interval: fit.weight for interval, fit in fits.items()}
    by_weight: dict[Weight, Columns] = {}
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        weight = acting_weight(setting, calibrated)
        if weight not in by_weight:
            secant = Secant(sets.problem.base, correction, weight)
            if setting.is_calibrated:
                fit = fits[setting.interval]
                by_weight[weight] = _best_constant_path(secant, sets, fit, setting.interval)
            else:
                moments, hidden = _moments(secant, sets)
                validation = validation_moments(secant, sets)
                by_weight[weight] = score_path(moments, WHOLE, validation, sets.span, hidden)
        columns[setting] = by_weight[weight]
    return columns, calibrated


def _best_constant(correction: Correction, sets: EvaluationSet, interval: Interval) -> Calibration:
    """Return the constant weight of least denoising error on the validation split."""
    secants = [
        Secant(sets.problem.base, correction, in_interval(ConstantWeight(weight), interval))
        for weight in GRID
    ]
    moments = [_validation_moments(secant, sets) for secant in secants]
    changes = torch.stack([moment.change(WHOLE).double().mean(1) for moment in moments])
    return calibrate_constant(changes.cpu(), GRID, sets.knots)


def _best_constant_path(
    secant: Secant, sets: EvaluationSet, fit: Calibration, interval: Interval
) -> Columns:
    """Return the path KL at the best constant weight, with the error of the fit."""
    values, span = fit.without_fold[:, 0].tolist(), sets.span
    refits, observable_refits = {}, {}
    for value in set(values):
        weight = in_interval(ConstantWeight(value), interval)
        other = replace(secant, weight=weight)
        moments, hidden = _moments(other, sets)
        one = torch.ones(1, 1, 1, dtype=torch.float64, device=moments.sigma.device)
        change = moments.change_at(one.expand(1, *moments.sigma.shape))
        refits[value] = change.unflatten(2, (span.num_bins, -1)).mean((1, 3))[0]
        if hidden is not None:
            observable_refits[value] = refits[value] - hidden.change_in_bins(one, span)[0]
    moments, hidden = _moments(secant, sets)
    path = path_divergence(moments, WHOLE, span)
    by_bin = torch.stack([refits[value] for value in values])
    columns = _path_columns(path.with_fit_error(by_bin, span), span.log_length * fit.change)
    if hidden is not None:
        by_bin = torch.stack([observable_refits[value] for value in values])
        observable = hidden.observable(path, WHOLE, span).with_fit_error(by_bin, span)
        columns |= _observable_columns(observable, hidden.grid_error(WHOLE, span))
    return columns | fit_columns(fit)


def _moments(
    secant: Secant, sets: EvaluationSet
) -> tuple[PathMoments, DivergenceFreeMoments | None]:
    moments = sets.path_moments(scaled_change(secant, sets.held_out))
    return moments, sets.divergence_free_moments(secant)


def validation_moments(
    correction: LinearCorrection, sets: EvaluationSet, intervals: Collection[Interval] = (None,)
) -> GuidanceMoments:
    """Return the moments of a correction on the validation split, 0 outside of the intervals.

    Raises:
        FloatingPointError: if the correction has diverged.
    """
    moments = _validation_moments(correction, sets, intervals)
    if not (torch.isfinite(moments.cost).all() and torch.isfinite(moments.gain).all()):
        raise FloatingPointError(
            "the correction must be finite on the validation split, but it is not; "
            "lower fit.learning_rate, or fit.weight_decay if it is not 0"
        )
    return moments


def _validation_moments(
    correction: LinearCorrection, sets: EvaluationSet, intervals: Collection[Interval] = (None,)
) -> GuidanceMoments:
    pull = scaled_change(correction, sets.validation, intervals)
    gain = -torch.linalg.vecdot(sets.validation.residual, pull)
    return GuidanceMoments(sets.validation.real.sigma, gain, squared_norm(pull))


def calibrations(
    correction: LinearCorrection, sets: EvaluationSet, intervals: Collection[Interval]
) -> tuple[dict[Interval, Calibration], GuidanceMoments]:
    """Return the calibration on the validation split for each interval, and its moments."""
    moments = validation_moments(correction, sets, intervals)
    if sets.problem.evaluation.calibration == "mmd":
        weight = mmd_weight(
            correction,
            sets.problem.base,
            *sets.problem.real_labelled("validation"),
            knots=sets.knots,
            seed=sets.problem.seed,
        )
        return {i: uncertified(moments.within(i), weight) for i in intervals}, moments
    return {i: calibrate(moments.within(i), sets.knots) for i in intervals}, moments


def score_path(
    moments: PathMoments,
    weight: Weight,
    validation: GuidanceMoments,
    span: NoiseRange,
    hidden: DivergenceFreeMoments | None = None,
) -> Columns:
    """Return path KL, score error and change on the validation split of a constant weight.

    With ``hidden``, the moments that have no effect on marginals, the observable path KL too.
    """
    change = span.log_length * validation.change(weight).double().mean(1)
    path = path_divergence(moments, weight, span)
    columns = _path_columns(path, change)
    if hidden is not None:
        observable = hidden.observable(path, weight, span)
        columns |= _observable_columns(observable, hidden.grid_error(weight, span))
    return columns


def score_calibrated_path(
    moments: PathMoments,
    calibration: Calibration,
    interval: Interval,
    span: NoiseRange,
    hidden: DivergenceFreeMoments | None = None,
) -> Columns:
    """Return the same of a calibrated weight, with the error of its validation split.

    The change on the validation split is cross-validated.
    """
    weight = in_interval(calibration.weight, interval)
    refits = moments.change_at(calibration.refits(moments.sigma, interval))
    by_bin = refits.unflatten(2, (span.num_bins, -1)).mean((1, 3))
    path = path_divergence(moments, weight, span)
    columns = _path_columns(
        path.with_fit_error(by_bin, span), span.log_length * calibration.change
    )
    if hidden is not None:
        refits = calibration.refits(hidden.value.sigma, interval)
        of_gradient = by_bin - hidden.change_in_bins(refits, span)
        observable = hidden.observable(path, weight, span).with_fit_error(of_gradient, span)
        columns |= _observable_columns(observable, hidden.grid_error(weight, span))
    return columns


def _path_columns(path: PathDivergence, validation_change: Tensor) -> Columns:
    return {
        **_level_columns(path.level),
        **estimate_columns("path_kl_change", path.change),
        **_bin_columns("path_kl_change_bins", path.change_bins),
        **estimate_columns("validation_change", Estimate.of(validation_change)),
    }


def _observable_columns(path: PathDivergence, grid_error: float) -> Columns:
    assert path.level is not None  # a density in the plane is known
    return observable_columns(path.level.path_kl, path.change, grid_error)


def _level_columns(level: PathLevel | None) -> Columns:
    if level is None:
        return {}
    return {
        **estimate_columns("path_kl", level.path_kl),
        **_bin_columns("path_kl_bins", level.path_kl_bins),
        **estimate_columns("score_error", level.score_error),
        **_bin_columns("score_error_bins", level.score_error_bins),
    }


def _bin_columns(name: str, bins: Sequence[Estimate]) -> Columns:
    return {name: [mean.value for mean in bins], f"{name}_se": [mean.se for mean in bins]}

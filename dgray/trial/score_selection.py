"""KL divergences of a correction that selects among samples of the base, by its tilt.

Logits are those of samples noised to sigma_min; the samples of the base are the generated ones of
a split. See ``dgray.metrics.tilt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dgray.correction.calibration import Calibration, calibrate_constant
from dgray.correction.correction import SamplerCorrection
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.likelihood import OdeLikelihood
from dgray.diffusion.sampler import heun, reverse_sde, sampler_sigmas
from dgray.metrics.estimate import Estimate, jackknife_error, jackknife_parts
from dgray.metrics.tilt import Tilt
from dgray.plan.plan import Setting
from dgray.problem.problem import Labelled, Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Calibrated, Columns, Interval, acting_weight
from dgray.trial.score_correction import (
    LikelihoodReference,
    estimate_columns,
    fit_columns,
    flow_columns,
    observable_columns,
)

EXPONENTS = tuple(i / 10 for i in range(1, 31))  # of the ratio, to choose the calibrated one from


def score_selected_paths(
    correction: SamplerCorrection, sets: EvaluationSet, settings: Sequence[Setting]
) -> tuple[dict[Setting, Columns], Calibrated]:
    """Return the path KL of each setting, and the calibrated weight of each guidance interval.

    A path of the base is kept or not by its end alone.
    """
    problem, first = sets.problem, sets.problem.evaluation.num_noised
    real = {
        split: _logits(correction, problem, problem.real_labelled(split, first), f"real {split}")
        for split in ("held_out", "validation")
    }
    of_base = {
        (split, steps): _of_base(correction, problem, split, steps)
        for split in real
        for steps in {setting.num_steps for setting in settings}
    }
    base = sets.path_moments(torch.zeros_like(sets.score_gap))
    hidden = sets.divergence_free_moments(None)
    first_steps = settings[0].num_steps
    fits = {
        interval: _calibrate(
            correction, sets, real["validation"], of_base["validation", first_steps], interval
        )
        for interval in {s.interval for s in settings if s.is_calibrated}
    }
    calibrated = {interval: fit.weight for interval, fit in fits.items()}
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        exponent = _exponent(problem, setting, calibrated)
        held_out, validation = (
            Tilt(correction.rule(exponent).log_tilt, of_base[split, setting.num_steps])
            for split in real
        )
        change = held_out.change(real["held_out"])
        validation_change = validation.change(real["validation"])
        fit_error: tuple[float, tuple[float, ...]] = 0.0, ()
        if setting.is_calibrated:
            fit = fits[setting.interval]
            fit_error = _fit_error(correction, fit, held_out.of_base, real["held_out"])
            validation_change = Estimate.of(fit.change)
        change = change.with_error(*fit_error)
        columns[setting] = {
            **estimate_columns("path_kl_change", change),
            **estimate_columns("validation_change", validation_change),
            **(fit_columns(fits[setting.interval]) if setting.is_calibrated else {}),
        }
        if base.prior is not None:
            path = base.prior + sets.span.log_length * base.base.mean(1)
            path_kl = Estimate.of(path + held_out.losses(real["held_out"]))
            path_kl = held_out.with_base_error(path_kl, real["held_out"])
            path_kl = path_kl.with_error(fit_error[0])
            columns[setting] |= estimate_columns("path_kl", path_kl)
            if hidden is not None:
                # The tilt acts on the ends of paths, so the bound changes by as much.
                level, error = hidden.of_base(path_kl, sets.span)
                columns[setting] |= observable_columns(level, change, error)
    return columns, calibrated


def _calibrate(
    correction: SamplerCorrection,
    sets: EvaluationSet,
    real: Tensor,
    of_base: Tensor,
    interval: Interval,
) -> Calibration:
    """Choose the exponent of least KL divergence on the validation split."""
    if interval is not None and not interval[0] <= sets.problem.span[0] <= interval[1]:
        return calibrate_constant(torch.zeros(0, len(real)).double(), (), sets.knots)
    tilts = [Tilt(correction.rule(exponent).log_tilt, of_base) for exponent in EXPONENTS]
    changes = torch.stack([tilt.losses(real).cpu() for tilt in tilts])
    zero = Estimate(0.0, 0.0)
    errors = torch.tensor([tilt.with_base_error(zero, real).se for tilt in tilts]).double()
    return calibrate_constant(changes, EXPONENTS, sets.knots, errors)


def _fit_error(
    correction: SamplerCorrection, fit: Calibration, of_base: Tensor, real: Tensor
) -> tuple[float, tuple[float, ...]]:
    """Return the error of the KL divergence due to the choice of the exponent, and its parts."""
    exponents = fit.without_fold[:, 0].tolist()
    by_exponent = {
        value: Tilt(correction.rule(value).log_tilt, of_base).losses(real).mean()
        for value in set(exponents)
    }
    refits = torch.stack([by_exponent[value] for value in exponents])
    return float(jackknife_error(refits)), jackknife_parts(refits)


def score_selected_flow(
    correction: SamplerCorrection,
    problem: Problem,
    settings: Sequence[Setting],
    reference: LikelihoodReference,
    calibrated: Calibrated,
) -> dict[Setting, Columns]:
    """Return the KL of settings whose proposals are samples of the probability-flow ODE."""
    split, points = reference.split, reference.points
    labels = problem.likelihood_labels(split)
    real = _logit_at(correction, points, labels, problem.span[0])
    of_base: dict[int, Tensor] = {}
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        steps = setting.num_steps
        if steps not in of_base:
            of_base[steps] = _of_base(correction, problem, split, steps, is_flow=True)
        exponent = _exponent(problem, setting, calibrated)
        tilt = Tilt(correction.rule(exponent).log_tilt, of_base[steps])
        law = OdeLikelihood(reference.base_log_prob - tilt.losses(real), reference.converged)
        with_error = partial(tilt.with_base_error, real=real)
        columns[setting] = flow_columns(problem, law, reference, with_error)
    return columns


def _exponent(problem: Problem, setting: Setting, calibrated: Calibrated) -> float:
    return float(acting_weight(setting, calibrated)(torch.tensor(problem.span[0])))


def _of_base(
    correction: SamplerCorrection,
    problem: Problem,
    split: str,
    num_steps: int,
    *,
    is_flow: bool = False,
) -> Tensor:
    """Return the logits of samples of the base, shape (M,).

    Points are drawn from the prior, by Heun's method for the flow, else by the reverse SDE. The
    generated samples of a split have another distribution if they are exact draws of an exact
    base. Images are those of the split, which Heun's method drew.
    """
    if problem.shape is not None:
        images = problem.generated_labelled(split)
        return _logits(correction, problem, images, f"generated {split}")
    sigmas = sampler_sigmas(problem.base, num_steps, problem.span, problem.evaluation.rho)
    count, labels = problem.sizes.generated(split), problem.generated_labelled(split)[1]
    law, sampler, num_noisy = (
        ("flow", heun, 0) if is_flow else ("path", reverse_sde, len(sigmas) - 1)
    )
    shape = torch.Size((1 + num_noisy, count, problem.dimension))
    noise = problem.start_noise("noise", "selection", law, split, shape=shape)
    start = problem.prior_std_at(float(sigmas[0])) * noise[0]
    samples = sampler(with_labels(problem.base, labels), start, sigmas, noise[1:])
    return _logits(correction, problem, (samples, labels), f"{law} {split}")


def _logits(
    correction: SamplerCorrection, problem: Problem, samples: Labelled, purpose: str
) -> Tensor:
    """Return the logits of samples noised to sigma_min, shape (N,)."""
    clean, labels = samples
    lowest = problem.span[0]
    noise = problem.start_noise("noise", "selection", purpose, shape=clean.shape)
    return _logit_at(correction, clean + lowest * noise, labels, lowest)


def _logit_at(
    correction: SamplerCorrection, points: Tensor, labels: Tensor | None, sigma: float
) -> Tensor:
    discriminator = with_labels(correction.discriminator, labels)
    return discriminator.logit(points, torch.full_like(points[:, 0], sigma))

r"""Estimates of KL(p || q) from the logit d of a discriminator, of data p against a base q.

At sigma_min, with samples x of p and y of q that were not trained on:

- mean logit, E_p[d]: the plug-in estimate of density-ratio estimation, which needs the right
  constant in d (Sugiyama et al. 2012, Density Ratio Estimation in Machine Learning);
- Donsker-Varadhan, E_p[d] - log E_q[e^d] (1983; Belghazi et al. 2018, arXiv 1801.04062), which is
  unchanged by a constant in d;
- NWJ, E_p[d] - E_q[e^d] + 1 (Nguyen et al. 2010, arXiv 0809.0853; the KL case of the f-GAN,
  Nowozin et al. 2016, arXiv 1606.00709).

The last two are lower bounds at expectations. Means of e^d over M samples are far too low if
KL(p || q) is well above ln M, however good d is (McAllester and Stratos 2020, arXiv 1811.04251).

Along the noise levels, KL(p || q) at sigma_min minus that at sigma_max is

    int E_p |sigma grad log(p/q)|^2 d ln sigma,

so with gradients in place of grad log(p/q), and with the residual n + sigma s of the base on
noised samples x0 + sigma n of p,

- path: int E_p |sigma grad d|^2 d ln sigma (Franzese et al. 2024, arXiv 2310.09031, with
  the difference of two trained scores);
- denoising: minus int E_p [2 (n + sigma s).(sigma grad d) + |sigma grad d|^2] d ln sigma, by which
  guidance lowers the path KL. It is a lower bound for every d, and the KL objective maximises it.

Both need no constant, and leave out the KL that remains at sigma_max.
"""

from __future__ import annotations

import math
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from dgray.metrics.estimate import Estimate
from dgray.metrics.tilt import Tilt


def donsker_varadhan(real: Float[Tensor, "N"], base: Float[Tensor, "M"]) -> Estimate:
    """Return the Donsker-Varadhan estimate in nats from logits of samples of data and base."""
    change = Tilt(lambda logits, _: logits, base).change(real)
    return replace(change, value=-change.value, parts=tuple(-part for part in change.parts))


def nwj(real: Float[Tensor, "N"], base: Float[Tensor, "M"]) -> Estimate:
    """Return the NWJ estimate in nats; nan where e^d overflows."""
    of_real, of_base = Estimate.of(real), Estimate.of(base.double().exp())
    if not (math.isfinite(of_base.value) and math.isfinite(of_base.se)):
        return Estimate(math.nan, math.nan)
    return Estimate(of_real.value - of_base.value + 1, math.hypot(of_real.se, of_base.se))


def path_estimate(cost: Float[Tensor, "N S"], log_length: float) -> Estimate:
    """Return the path estimate in nats.

    Args:
        cost: |sigma grad d|^2 at noised samples of the data.
        log_length: ln(sigma_max / sigma_min), over which the S noise levels are stratified.
    """
    return Estimate.of(log_length * cost.double().mean(1))


def denoising_estimate(
    cost: Float[Tensor, "N S"], cross: Float[Tensor, "N S"], log_length: float
) -> Estimate:
    """Return the denoising estimate in nats; ``cross``: (n + sigma s).(sigma grad d)."""
    return Estimate.of(-log_length * (cost + 2 * cross).double().mean(1))

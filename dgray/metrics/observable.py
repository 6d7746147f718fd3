r"""Path KL of the part of the error of the score that the marginals depend on.

With e the error of the guided score at noise level sigma and p the noised density of the data,
e = grad phi + r with div(p r) = 0 (Helmholtz). r leaves the Fokker-Planck equation of p unchanged:
a model with the error r alone has the marginals of the data. So Girsanov's theorem holds with
grad phi in place of e (Khelifa, Turner and Venkataramanan 2026, arXiv 2606.06179):

    KL(p || model) <= KL(p_T || prior) + int E_p|sigma grad phi|^2 d ln sigma,

which is the path KL minus int E_p|sigma r|^2 d ln sigma. The latter is computed on grids
(``dgray.metrics.helmholtz``) without a sampling error, so the error bars are those of the path KL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from dgray.correction.weight import Weight
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import NoiseRange, PathDivergence, PathMoments


@dataclass(frozen=True)
class DivergenceFreeMoments:
    """Moments of the divergence-free parts of a = sigma (score of the data - s) and b = sigma c.

    Attributes:
        value: |a|^2, a.b and |b|^2, their means under the data at each noise level, (1, S).
        extrapolation: what the extrapolation to a spacing of 0 has added to them.
    """

    value: PathMoments
    extrapolation: PathMoments

    def observable(self, path: PathDivergence, weight: Weight, span: NoiseRange) -> PathDivergence:
        """Return the path KL and its change, in all and by bin, of the gradient part alone."""
        width = span.log_length / span.num_bins
        errors, changes = (
            (width * values).unflatten(1, (span.num_bins, -1)).mean((0, 2))
            for values in (self.value.squared_error(weight), self.value.change(weight))
        )
        level = path.level and replace(
            path.level,
            path_kl=_less(path.level.path_kl, errors.sum()),
            path_kl_bins=list(map(_less, path.level.path_kl_bins, errors)),
        )
        return PathDivergence(
            level=level,
            change=_less(path.change, changes.sum()),
            change_bins=list(map(_less, path.change_bins, changes)),
        )

    def of_base(self, path_kl: Estimate, span: NoiseRange) -> tuple[Estimate, float]:
        """Return a path KL less the part of the base, and the estimated error of the grids."""
        error = span.log_length * float(self.value.base.mean())
        grid_error = span.log_length * abs(float(self.extrapolation.base.mean()))
        return replace(path_kl, value=path_kl.value - error), grid_error

    def change_in_bins(
        self, weights: Float[Tensor, "F 1 S"], span: NoiseRange
    ) -> Float[Tensor, "F B"]:
        """Return the mean change against the base in each bin for values of weights."""
        by_bin = self.value.change_at(weights).unflatten(2, (span.num_bins, -1))
        change: Tensor = by_bin.mean((1, 3))
        return change

    def grid_error(self, weight: Weight, span: NoiseRange) -> float:
        """Return the estimated error of the grids in nats."""
        return span.log_length * abs(float(self.extrapolation.squared_error(weight).mean()))


def _less(estimate: Estimate, exact: Tensor) -> Estimate:
    """Return an estimate minus a number without error."""
    return replace(estimate, value=estimate.value - float(exact))


def divergence_free_moments(
    sigma: Float[Tensor, "S"], values: Float[Tensor, "S 3"], extrapolation: Float[Tensor, "S 3"]
) -> DivergenceFreeMoments:
    """Return the moments from |a|^2, a.b and |b|^2 at noise levels equal in ln sigma."""

    def moments(columns: Float[Tensor, "S 3"]) -> PathMoments:
        base, cross, cost = columns.T[:, None]
        return PathMoments(sigma[None], base, cross, cost, prior=None)

    return DivergenceFreeMoments(moments(values), moments(extrapolation))

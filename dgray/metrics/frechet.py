r"""Fréchet distance of two Gaussians.

FD = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) (Dowson and Landau 1982, J. Multivariate Anal.
12(3)). It is named FID only for Inception-v3 features (Heusel et al. 2017, arXiv 1706.08500).

With S1 = A A^T and S2 = B B^T the eigenvalues of S1 S2 are those of the symmetric G G^T,
G = A^T B, and 0. The trace of the root is therefore a sum of roots of symmetric eigenvalues, real
for any rank, where a general matrix root (``scipy.linalg.sqrtm``) may become complex. A and B come
from Cholesky with pivoting, which stops at the rank: with fewer vectors than dimensions no root of
a rounded zero is taken.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from threadpoolctl import ThreadpoolController

from dgray.errors import FeaturesError

Array = NDArray[np.float64]

ASYMMETRY = 1e-6  # relative to the largest entry; admits statistics rounded to float32
RESIDUAL = 1e-10  # of a Cholesky factorisation, relative to the trace
NEGATIVE = 1e-5  # eigenvalue due to rounding, relative to the largest


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Return the squared Fréchet distance of N(mu1, sigma1) and N(mu2, sigma2), >= 0.

    Args:
        mu1: mean of the first Gaussian, shape (d,).
        sigma1: its covariance, symmetric positive semidefinite of any rank, shape (d, d).
        mu2: mean of the second.
        sigma2: covariance of the second.

    Raises:
        FeaturesError: if shapes disagree, numbers are not finite, or a covariance is not symmetric
            positive semidefinite.
    """
    mu1, sigma1 = _checked("first", mu1, sigma1)
    mu2, sigma2 = _checked("second", mu2, sigma2)
    if mu1.shape != mu2.shape:
        raise FeaturesError(
            "both Gaussians must have the same dimension, but got "
            f"{len(mu1)} and {len(mu2)}; were the features extracted by different networks?"
        )
    with one_blas_thread():
        gram = _factor("first", sigma1).T @ _factor("second", sigma2)
        if gram.shape[0] > gram.shape[1]:
            gram = gram.T
        overlap = np.sqrt(np.clip(np.linalg.eigvalsh(gram @ gram.T), 0, None)).sum()
    gap = mu1 - mu2
    return max(0.0, float(gap @ gap + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Run BLAS and LAPACK on the calling thread alone while the context is active.

    More threads would sum in another order and round differently. Trials set the threads of torch,
    but nothing sets those of numpy, whose number differs between engines and machines.
    """
    limited: AbstractContextManager[Any] = _threadpools().limit(limits=1, user_api="blas")
    return limited


@cache  # searching the loaded libraries takes milliseconds; scipy's own BLAS is loaded above
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


def _checked(which: str, mu: Array, sigma: Array) -> tuple[Array, Array]:
    """Return mean and covariance in float64, or raise FeaturesError."""
    mu, sigma = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if mu.ndim != 1 or len(mu) == 0 or sigma.shape != (len(mu), len(mu)):
        raise FeaturesError(
            f"the {which} Gaussian must have a mean of shape (d,) and a covariance of shape "
            f"(d, d), d > 0, but got {mu.shape} and {sigma.shape}"
        )
    for name, values in (("mean", mu), ("covariance", sigma)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise FeaturesError(
                f"the {which} Gaussian's {name} must be finite, but {bad} of {values.size} "
                "numbers are nan or infinite; features must be finite, and a covariance needs at "
                "least 2 of them"
            )
    asymmetry, scale = np.abs(sigma - sigma.T).max(), np.abs(sigma).max()
    if asymmetry > ASYMMETRY * scale:
        raise FeaturesError(
            f"the {which} Gaussian's covariance must be symmetric, but an entry differs from its "
            f"mirror by {asymmetry:.3g}, and the largest entry is {scale:.3g}"
        )
    return mu, (sigma + sigma.T) / 2


def _factor(which: str, sigma: Array) -> Array:
    """Return A, shape (d, rank), with A A^T = sigma."""
    lower, pivot, rank, _ = lapack.dpstrf(sigma, lower=1)
    factor = np.empty((len(sigma), rank))
    factor[pivot - 1] = np.tril(lower)[:, :rank]
    # Products with two fixed vectors reveal a wrong factor at little cost.
    probes = np.random.default_rng(0).choice([-1.0, 1.0], (len(sigma), 2))
    with np.errstate(over="ignore", invalid="ignore"):
        missed = np.abs(sigma @ probes - factor @ (factor.T @ probes)).max()
    if missed <= RESIDUAL * np.trace(sigma):
        return factor
    return _eigen_factor(which, sigma)


def _eigen_factor(which: str, sigma: Array) -> Array:
    """Return ``_factor`` of a matrix that is slightly indefinite due to rounding; slower."""
    values, vectors = np.linalg.eigh(sigma)
    if values[0] < -NEGATIVE * values[-1]:
        raise FeaturesError(
            f"the {which} Gaussian's covariance must be positive semidefinite, but its "
            f"eigenvalues go from {values[0]:.3g} to {values[-1]:.3g}"
        )
    kept = values > 0
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))

"""The metrics of dgray with the columns that they add to a row, and columns of the discriminator.

Columns of the table of rows are in the order of this module.
"""

from __future__ import annotations

from functools import partial

from dgray.catalogue.column import ColumnSpec
from dgray.catalogue.registry import Registry
from dgray.catalogue.spec import POINTS_AND_IMAGES, MetricSpec

FEATURE_SAMPLES = 12  # of metrics of features, whose errors leave out each of ten groups

_KL_CHANGE = ColumnSpec(
    name="kl_change",
    better="lower",
    in_summary=True,
    doc="kl (for images: nll) minus that of the base, paired over samples",
    unit="nats",
    label="KL (ODE) change",
    title="change of KL (ODE)",
    has_parts=True,
    validation="validation_kl_change",
)

_INTEGRATION_ERROR = ColumnSpec(
    name="kl_integration_error",
    doc="estimated numerical error of kl (for images: nll): mean absolute difference of "
    "log-densities at the tolerance and at ten times it, over every fourth point; compare it "
    "with the standard error",
    unit="nats",
    has_error=False,
)

_of_features = partial(MetricSpec, source="features", min_samples=FEATURE_SAMPLES)

METRICS = Registry[MetricSpec](
    "metrics",
    MetricSpec(
        name="kl",
        default_for=("points",),
        title="KL of the probability-flow ODE",
        label="KL (ODE)",
        doc="KL(data || model of the probability-flow ODE)",
        unit="nats",
        error_doc="its standard error over held-out points",
        source="flow",
        kinds=("points",),
        needs_density=True,
        needs_sampler="flow",
        validation="validation_kl",
        unreliable_column="kl_unconverged",
        more_columns=(
            ColumnSpec(
                name="kl_unconverged",
                doc="share of held-out points whose integration missed the tolerance; if it is "
                "above 0, kl is unreliable",
                has_error=False,
            ),
            _INTEGRATION_ERROR,
            _KL_CHANGE,
        ),
    ),
    MetricSpec(
        name="nll",
        in_summary=False,
        title="negative log-likelihood",
        label="NLL",
        doc="negative log-likelihood of held-out samples under the model of the "
        "probability-flow ODE: of dequantised images, of points noised to sigma_min",
        unit="nats",
        error_doc="its standard error over samples",
        source="flow",
        needs_sampler="flow",
        validation="validation_nll",
        more_columns=(
            ColumnSpec(
                name="bits_per_dim",
                in_summary=True,
                doc="negative log-likelihood of the bytes of held-out images",
                unit="bits per dimension",
                label="bits/dim",
            ),
            _INTEGRATION_ERROR,
            _KL_CHANGE,
        ),
    ),
    MetricSpec(
        name="path_kl",
        default_for=POINTS_AND_IMAGES,
        title="path KL",
        doc="KL(data || model) in path space, of the reverse SDE (Girsanov)",
        unit="nats",
        error_doc="its standard error over held-out points",
        source="path",
        is_always_computed=True,
        more_columns=(
            ColumnSpec(
                name="path_kl_bins",
                doc="path_kl by noise-level bin",
                unit="nats",
                type="floats",
                error_doc="their standard errors",
            ),
            ColumnSpec(
                name="path_kl_change",
                better="lower",
                in_summary=True,
                doc="path_kl minus that of the base, paired over samples and noise",
                unit="nats",
                label="path KL change",
                title="change of path KL",
                has_parts=True,
                validation="validation_change",
                validation_doc="change of the denoising error on the validation split, "
                "cross-validated at a calibrated weight (an estimate of path_kl_change); settings "
                "are selected by it",
            ),
            ColumnSpec(
                name="path_kl_change_bins",
                doc="path_kl_change by noise-level bin",
                unit="nats",
                type="floats",
                error_doc="their standard errors",
            ),
            ColumnSpec(
                name="score_error",
                doc="E|sigma (score of the data - guided score)|^2, averaged over log sigma",
            ),
            ColumnSpec(
                name="score_error_bins",
                doc="score_error by noise-level bin",
                type="floats",
                error_doc="their standard errors",
            ),
        ),
    ),
    MetricSpec(
        name="observable_path_kl",
        title="observable path KL",
        doc="path_kl of the gradient part of the score error alone, by a Helmholtz decomposition "
        "weighted by the density: the marginals of the reverse SDE depend on no other part",
        unit="nats",
        error_doc="its standard error over held-out points",
        source="path",
        kinds=("points",),
        needs_density=True,
        needs_grid=True,
        min_dimension=2,
        max_dimension=2,
        more_columns=(
            ColumnSpec(
                name="observable_path_kl_change",
                better="lower",
                doc="observable_path_kl minus that of the base, paired over samples and noise",
                unit="nats",
                label="observable path KL change",
                title="change of the observable path KL",
                has_parts=True,
            ),
            ColumnSpec(
                name="observable_path_kl_grid_error",
                doc="estimated numerical error of observable_path_kl: what the extrapolation to "
                "grids of spacing 0 changed; all three columns are null if 32,768 nodes cannot "
                "resolve the density",
                unit="nats",
                has_error=False,
            ),
        ),
    ),
    MetricSpec(
        name="kl_sde",
        title="KL of the SDE sampler",
        label="KL (SDE)",
        doc="KL(data || samples of this stochastic sampler), by nearest neighbours",
        unit="nats",
        kinds=("points",),
        needs_sampler="stochastic",
        max_dimension=4,
        min_samples=20,
        validation="validation_kl_sde",
        more_columns=(
            ColumnSpec(
                name="kl_sde_change",
                better="lower",
                title="change of KL (SDE)",
                doc="kl_sde minus that of the base's samples by the same sampler, paired over "
                "points and seeds",
                unit="nats",
                has_parts=True,
            ),
            ColumnSpec(
                name="kl_sde_floor",
                doc="the same estimate for fresh data in place of samples: the value of a perfect "
                "sampler",
                unit="nats",
            ),
        ),
    ),
    MetricSpec(
        name="kl_sampler",
        in_summary=False,
        title="KL of the deterministic sampler",
        label="KL (sampler)",
        doc="KL(samples of this sampler || data), by its accumulated log-determinant",
        unit="nats",
        kinds=("points",),
        needs_density=True,
        needs_sampler="flow",
        more_columns=(
            ColumnSpec(
                name="kl_sampler_folded",
                doc="share of samples with a step that folds space over itself; if it is above 0, "
                "kl_sampler is missing",
                has_error=False,
            ),
        ),
    ),
    MetricSpec(
        name="ratio_kl",
        in_summary=False,
        title="KL of the base by the mean logit",
        label="KL by mean logit",
        doc="estimate of KL(data || base) at sigma_min from a discriminator: its mean logit on "
        "held-out samples; the same for all weights and samplers, null for the base and for "
        "corrections without a discriminator",
        unit="nats",
        error_doc="its standard error over samples",
        source="ratio",
        better="",
        more_columns=(
            ColumnSpec(
                name="ratio_kl_dv",
                doc="the same by the Donsker-Varadhan bound; its error contains that of the "
                "generated samples, as far as they show it",
                unit="nats",
                label="KL by DV",
                title="KL of the base by the Donsker-Varadhan bound",
            ),
            ColumnSpec(
                name="ratio_kl_nwj",
                doc="the same by the NWJ bound (f-GAN), likewise; null where its exponential "
                "overflows",
                unit="nats",
                label="KL by NWJ",
                title="KL of the base by the NWJ bound",
            ),
            ColumnSpec(
                name="ratio_kl_path",
                doc="the same by the integral of the squared gradient of the logit over noise "
                "levels, without the KL that remains at sigma_max",
                unit="nats",
                label="KL by path",
                title="KL of the base by the path of gradients",
            ),
            ColumnSpec(
                name="ratio_kl_denoising",
                doc="the same by the denoising error that guidance removes, a lower bound, "
                "likewise",
                unit="nats",
                label="KL by denoising",
                title="KL of the base by the denoising error",
            ),
            ColumnSpec(
                name="ratio_kl_exact",
                doc="mean exact log-ratio of the same held-out samples, where it is known",
                unit="nats",
                label="KL, exact",
                title="KL of the base by the exact log-ratio",
                is_exact=True,
            ),
        ),
    ),
    MetricSpec(
        name="memorisation",
        default_for=("images",),
        title="memorisation",
        doc="share of samples nearer to a training sample than to a held-out one, minus 1/2",
        error_doc="its standard error over samples, for fixed training and held-out samples",
        needs_training=True,
        max_dimension=2,
    ),
    _of_features(
        name="fid",
        title="FID",
        doc="Fréchet distance of Inception-v3 features to the reference",
        error_doc="its standard error, jackknife over groups of samples",
        kinds=("images",),
        needs_moments_only=True,
        needs_inception=True,
        validation="validation_fid",
        has_parts=True,
    ),
    _of_features(
        name="fd",
        title="Fréchet distance",
        label="FD",
        doc="Fréchet distance of other features to the reference; report.parquet names it "
        "fd_<features>",
        error_doc="its standard error, jackknife over groups of samples",
        needs_moments_only=True,
        needs_inception=False,
        validation="validation_fd",
        has_parts=True,
        more_columns=(
            ColumnSpec(
                name="fd_floor",
                doc="distance (fid or fd) to the reference of all images that are not held out",
                has_error=False,
            ),
        ),
    ),
    _of_features(
        name="kid",
        in_summary=False,
        title="KID",
        doc="kernel distance of features to the reference (cubic kernel, unbiased)",
        has_parts=True,
        error_doc="its standard error, jackknife over groups of samples",
    ),
    _of_features(
        name="precision",
        title="precision",
        doc="share of samples within the reference's manifold, k = 3",
        error_doc="its standard error over samples",
        better="higher",
    ),
    _of_features(
        name="recall",
        title="recall",
        doc="share of the reference within the samples' manifold, k = 3",
        error_doc="its standard error, jackknife over groups of samples",
        better="higher",
    ),
    _of_features(
        name="density",
        in_summary=False,
        title="density",
        doc="density of samples in the reference's manifold, k = 5",
        error_doc="its standard error over samples",
        better="higher",
    ),
    _of_features(
        name="coverage",
        in_summary=False,
        title="coverage",
        doc="share of the reference with a sample nearby, k = 5",
        error_doc="its standard error, jackknife over groups of samples",
        better="higher",
    ),
)

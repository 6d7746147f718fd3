"""Specifications of the parts that a study can name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from dgray.catalogue.column import ColumnSpec

Kind = Literal["points", "images"]
NetworkName = Literal["mlp", "unet"]
Source = Literal["path", "flow", "ratio", "samples", "features"]
SOURCES: Mapping[Source, str] = {  # titles, in the order of presentation
    "path": "path of the reverse SDE",
    "flow": "probability-flow ODE",
    "ratio": "logit as estimate of the log-ratio",
    "samples": "samples",
    "features": "features of samples",
}
POINTS_AND_IMAGES: tuple[Kind, ...] = ("points", "images")


def load_object(path: str) -> Any:
    """Import the object that ``"module:attribute"`` names.

    Raises:
        ImportError: if the module cannot be imported or has no such attribute.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"{path}: module {module} has no attribute {attribute!r}") from error


def top_level_module(path: str) -> str:
    """Return the package, or the module without one, of an import path."""
    return path.partition(":")[0].partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Specification of one part.

    Attributes:
        name: its name in a study file.
        title: its name in reports, in lower case unless it is a proper name or an acronym.
        factory: import path ``"module:attribute"`` of the code that builds it; None for a metric
            that is built into the scoring of trials.
        kinds: kinds of data that it applies to.
        settings: import path of the pydantic model of its section of the study file (data, bases,
            discriminators); None: the section has the fields common to all, and ``arguments``.
        package: module of an optional package that it needs; empty: none.
        extra: extra of dgray that installs this package.
    """

    name: str
    title: str
    factory: str | None = None
    kinds: tuple[Kind, ...] = POINTS_AND_IMAGES
    settings: str | None = None
    package: str = ""
    extra: str = ""

    def load(self) -> Any:
        """Import and return the object that ``factory`` names.

        Raises:
            ImportError: if there is no such module or attribute.
        """
        if self.factory is None:
            raise ImportError(f"{self.name!r} has no factory")
        return load_object(self.factory)


@dataclass(frozen=True, kw_only=True)
class MethodSpec(Spec):
    """Objective or correction, shown as a series in reports.

    Attributes:
        subject: its name as the subject of a sentence; empty: ``title`` with a capital letter.
        colour: colour of its series in figures, ``"#RRGGBB"``; empty: chosen by the figures.
        marker: marker of its series in figures, a matplotlib marker.
        is_trained: whether it is trained; False for controls. Of a correction with
            ``needs_discriminator`` the objective decides.
        options: fields of its section (``fit``, ``correction``) that only some objectives or
            corrections read, this one among them.
    """

    subject: str = ""
    colour: str = ""
    marker: str = "o"
    is_trained: bool = True
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(MethodSpec):
    """Training objective of a discriminator, or a control that is not trained.

    Attributes:
        needs_generated: whether its loss reads samples of the base.
        needs_gradient: whether its loss always reads the gradient of the logit in x.
        needs_span: whether its factory is called with the noise levels of the study, ``span``.
        needs_density: whether it needs the exact densities of the data and of the base.
    """

    needs_generated: bool = True
    needs_gradient: bool = False
    needs_span: bool = False
    needs_density: bool = False


@dataclass(frozen=True, kw_only=True)
class CorrectionSpec(MethodSpec):
    """Correction: a denoiser made from a denoiser, or a sampler made from a sampler.

    What ``factory`` is called with, and returns, is in ``dgray.correction.correction``.

    Attributes:
        strength: what its weight is called in reports.
        needs_discriminator: whether it is made from a discriminator, so that it is trained by
            ``fit.objective``.
        needs_network: whether the size of its own network is that of the section
            ``discriminator``, whose fields its factory gets as ``network``.
        needs_generated: whether its loss reads samples of the base.
        needs_parametric_base: whether it trains copies of the base's network.
        is_sampler: whether it selects among samples of the base, with its denoiser unchanged.
        proposals: option that is about the number of samples of the base that are drawn for one
            selected sample; empty: one.
    """

    strength: str = "guidance weight"
    needs_discriminator: bool = False
    needs_network: bool = False
    needs_generated: bool = False
    needs_parametric_base: bool = False
    is_sampler: bool = False
    proposals: str = ""


@dataclass(frozen=True, kw_only=True)
class SamplerSpec(Spec):
    """Sampler: from a denoiser, noise and noise levels to samples.

    Attributes:
        is_stochastic: whether it draws noise in its steps.
        is_two_stage: whether a step has a predictor and a corrector, which can be guided apart.
        is_flow: whether it integrates the probability-flow ODE by Heun's method, so that the
            metrics of that ODE belong to its rows.
        options: fields of ``evaluate`` that only some samplers read, this one among them.
        draws: import path of a function (num_steps, **options) that returns how many times a
            sample draws noise; None: once a step if it is stochastic.
        calls: import path of a function, likewise, that returns the denoiser calls of a sample;
            None: one a step, or 2 num_steps - 1 with two stages. Imports no torch.
    """

    is_stochastic: bool = True
    is_two_stage: bool = False
    is_flow: bool = False
    options: tuple[str, ...] = ()
    draws: str | None = None
    calls: str | None = None

    def num_draws(self, num_steps: int, options: Mapping[str, Any]) -> int:
        """Return how many times a sample draws noise in its steps."""
        if self.draws is None:
            return num_steps if self.is_stochastic else 0
        return int(load_object(self.draws)(num_steps, **options))

    def num_calls(self, num_steps: int, options: Mapping[str, Any]) -> int:
        """Return the denoiser calls of a sample."""
        if self.calls is None:
            return 2 * num_steps - 1 if self.is_two_stage else num_steps
        return int(load_object(self.calls)(num_steps, **options))


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """Score of a corrected model.

    Attributes:
        doc: what its column holds.
        label: short name, a table heading.
        unit: unit of its values; empty for a pure number.
        in_summary: whether the summary and figures show it; the table and TensorBoard always do.
        better: which direction is better; empty: neither, or unknown.
        source: what it is computed from: ``path`` (noised held-out samples), ``flow`` (the
            probability-flow ODE), ``ratio`` (the logit of a discriminator), ``samples``
            (generated samples) or ``features`` (features of generated images). ``factory`` of a
            metric of samples or features is called with two arrays, generated and held-out.
        is_always_computed: whether it is computed without being named.
        needs_sampler: kinds of sampler that it is defined for.
        needs_density: whether it needs the exact density of the data.
        needs_grid: whether the score error is evaluated on a grid of the plane.
        needs_training: whether it compares samples with the training data.
        needs_moments_only: for metrics of features, whether mean and covariance of the reference
            suffice.
        needs_inception: for metrics of features, True: Inception only; False: no Inception;
            None: any.
        min_dimension: for metrics of points, the lowest dimension that it is defined for.
        max_dimension: the highest one.
        min_samples: the least number of samples and of held-out points.
        default_for: kinds of data for which it is computed unless a study names metrics.
        error_doc: what its standard error is over.
        validation: name of its column on the validation split, by which a search can select; None
            if a search cannot use it.
        has_parts: whether its column has the parts of its error (see ``ColumnSpec``).
        unreliable_column: column that is above 0 where its value is unreliable; empty: none.
        more_columns: further columns that it adds to a row.
    """

    doc: str
    label: str = ""
    unit: str = ""
    in_summary: bool = True
    better: Literal["lower", "higher", ""] = "lower"
    source: Source = "samples"
    is_always_computed: bool = False
    needs_sampler: Literal["any", "stochastic", "flow"] = "any"
    needs_density: bool = False
    needs_grid: bool = False
    needs_training: bool = False
    needs_moments_only: bool = False
    needs_inception: bool | None = None
    min_dimension: int = 1
    max_dimension: int | None = None
    min_samples: int = 1
    default_for: tuple[Kind, ...] = ()
    error_doc: str = "its standard error"
    validation: str | None = None
    has_parts: bool = False
    unreliable_column: str = ""
    more_columns: tuple[ColumnSpec, ...] = ()

    def is_defined_in(self, dimension: int) -> bool:
        """Return whether it is defined for points of this dimension."""
        highest = self.max_dimension
        return self.min_dimension <= dimension and (highest is None or dimension <= highest)

    @property
    def dimensions(self) -> str:
        """The dimensions that it is defined for: ``at most 4 dimensions``."""
        low, high = self.min_dimension, self.max_dimension
        if high is None:
            return f"at least {low} dimensions"
        if low == high:
            return f"exactly {low} dimensions"
        return f"at most {high} dimensions" if low == 1 else f"{low} to {high} dimensions"

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """The columns that it adds to a row, first its own, with attributes of the same names."""
        shared = {
            f.name: getattr(self, f.name) for f in fields(ColumnSpec) if hasattr(self, f.name)
        }
        own = ColumnSpec(**shared | {"label": self.label or self.title})
        return tuple(replace(column, source=self.source) for column in (own, *self.more_columns))


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """Data set; ``kinds`` holds the one kind of its samples.

    Attributes:
        has_density: whether its exact density is known at every noise level.
        shapes: shapes of its samples that are known before they are read, each after the fields
            of the section that select it.
        num_images: number of its images, if no file of the user and no extra is needed; else None.
        survey: import path of a function that takes the arguments of ``factory`` and returns a
            ``dgray.data.summary.DataSummary`` of images before they are read; imports no torch.
    """

    has_density: bool = False
    shapes: tuple[tuple[Mapping[str, Any], tuple[int, ...]], ...] = ()
    num_images: int | None = None
    survey: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaseSpec(Spec):
    """Base: the pretrained denoiser to be corrected.

    ``factory`` is called with the shape of a sample, the device and the fields of the section. If
    ``has_density``, it is called with the distribution of the data and the fields, and returns the
    distribution of the base; if ``weights`` is given, with the stored weights and the device.

    Attributes:
        has_density: whether its exact density is known at every noise level.
        is_trainable: whether copies of its network can be trained further (``fine_tune``).
        weights: import path of the computation of its weights (``dgray.problem.make_shared``),
            which are then stored and shared by trials; None: it has no stored weights.
        needs_driver_files: whether that computation reads files of the driver's machine.
    """

    has_density: bool = False
    is_trainable: bool = False
    weights: str | None = None
    needs_driver_files: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Spec):
    """Network of a trained base, and of corrections that train a network of their own.

    Attributes:
        is_convolutional: whether it reads square images (C, H, W); otherwise it reads vectors.
    """

    name: NetworkName
    is_convolutional: bool = False


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSpec(Spec):
    """Network of a discriminator.

    Attributes:
        is_ensemble: whether ``factory`` builds the networks of all replicates at once, from the
            problem, a generator of each network and the fields of the section; otherwise it
            builds one ``torch.nn.Module`` from the shape of a sample, the scale of the data, the
            number of classes and the fields.
        default_for: kinds of data for which it is built without a study unless one is named.
        network: network of the same architecture that corrections with a network of their own
            train; None: they cannot be trained with it.
        min_weights: import path of a function (dimension, width, depth) that returns a lower
            bound of the number of its weights, which is checked before a stored one is built.
    """

    is_ensemble: bool = False
    default_for: tuple[Kind, ...] = ()
    network: NetworkSpec | None = None
    min_weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class FeaturesSpec(Spec):
    """Features in which images are compared.

    ``factory`` is called with ``device``, the options, and ``weights`` if there is an artifact.

    Attributes:
        dimension: number of features of an image; None: unknown.
        is_inception: whether they are those of Inception-v3, whose Fréchet distance is the FID.
        is_trained: whether their network is trained on the classes of the images of the study.
        artifact: role of the shared artifact with the weights of their network; empty: none.
        options: keyword arguments of ``factory``.
    """

    dimension: int | None = None
    is_inception: bool = False
    is_trained: bool = False
    artifact: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

"""Catalogue of the parts that a study can name: objectives, samplers, metrics, data, and more.

A part is one frozen specification: its name in a study file, how it is presented, what it applies
to, and ``factory``, the import path ``"module:attribute"`` of the code that builds it. The code is
imported when the part is built, so that plans and reports need no torch.

The parts of dgray are registered at the end of this module. Another package registers its own with
an entry point whose value is a specification::

    [project.entry-points."dgray.objectives"]
    hinge = "my_package.parts:HINGE"

Groups: ``dgray.objectives``, ``dgray.samplers``, ``dgray.metrics``, ``dgray.data``,
``dgray.bases``, ``dgray.discriminators``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

Kind = Literal["points", "images"]
POINTS_AND_IMAGES: tuple[Kind, ...] = ("points", "images")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Specification of one part.

    Attributes:
        name: its name in a study file.
        title: its name in reports, in lower case unless it is a proper name or an acronym.
        factory: import path ``"module:attribute"`` of the code that builds it; None if it is built
            into the scoring of trials (some metrics) or has no code (the base).
        kinds: kinds of data that it applies to.
    """

    name: str
    title: str
    factory: str | None = None
    kinds: tuple[Kind, ...] = POINTS_AND_IMAGES

    def load(self) -> Any:
        """Import and return the object that ``factory`` names.

        Raises:
            ImportError: if the module cannot be imported or has no such attribute.
        """
        if self.factory is None:
            raise ImportError(f"{self.name!r} has no factory")
        return load_object(self.factory)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Spec):
    """Training objective of a discriminator, or a control that is not trained.

    Attributes:
        subject: its name as the subject of a sentence.
        colour: of its series in figures, ``"#RRGGBB"``.
        marker: of its series in figures, a matplotlib marker.
        is_trained: False for controls.
        needs_generated: whether its loss reads samples of the base.
        options: fields of ``fit`` that only this objective reads.
    """

    subject: str
    colour: str
    marker: str = "o"
    is_trained: bool = True
    needs_generated: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplerSpec(Spec):
    """Sampler: from a denoiser, noise and noise levels to samples.

    Attributes:
        is_stochastic: whether it draws noise in its steps.
        is_two_stage: whether a step has a predictor and a corrector, which can be guided apart.
        options: fields of ``evaluate`` that only this sampler reads.
    """

    is_stochastic: bool
    is_two_stage: bool
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """Column of the table of rows.

    Attributes:
        name: of the column.
        doc: what it holds.
        unit: of its values; empty for a pure number.
        has_error: whether the column ``{name}_se`` holds its standard error.
        error_doc: what that standard error is over.
        is_list: whether it holds a list of numbers (one for each noise-level bin or knot).
    """

    name: str
    doc: str
    unit: str = ""
    has_error: bool = True
    error_doc: str = "its standard error"
    is_list: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """Score of a guided model.

    Attributes:
        label: short name, a table heading.
        better: which direction is better.
        unit: of its values; empty for a pure number.
        source: what it is computed from: ``path`` (noised held-out samples), ``flow`` (the
            probability-flow ODE), ``samples`` (generated samples) or ``features`` (features of
            generated images). ``factory`` of a metric of samples or features is called with two
            arrays, generated and held-out.
        needs_stochastic: True: defined for stochastic samplers only; False: for deterministic
            ones only; None: for every sampler.
        validation_column: column of the same score on the validation split, by which a search can
            select; None if a search cannot use it.
        columns: what it adds to a row, itself first.
    """

    label: str
    better: Literal["lower", "higher"]
    unit: str = ""
    source: Literal["path", "flow", "samples", "features"]
    needs_stochastic: bool | None = None
    validation_column: str | None = None
    columns: tuple[ColumnSpec, ...]


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """Data set; ``kinds`` has the one kind of its samples."""


@dataclass(frozen=True, kw_only=True)
class BaseSpec(Spec):
    """Base: the pretrained denoiser to be corrected.

    Attributes:
        is_exact: whether its density is known, so that controls and its exact score exist.
    """

    is_exact: bool = False


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSpec(Spec):
    """Network of a discriminator."""


AnySpec = TypeVar("AnySpec", bound=Spec)


class Registry(Generic[AnySpec]):
    """Specifications of one group by name, in the order of their registration."""

    def __init__(self, group: str, *specs: AnySpec) -> None:
        self.group = group
        self._own = {spec.name: spec for spec in specs}

    @cached_property
    def _specs(self) -> dict[str, AnySpec]:
        specs = dict(self._own)
        for entry in importlib.metadata.entry_points(group=f"dgray.{self.group}"):
            spec: AnySpec = entry.load()
            if spec.name in specs:
                raise ValueError(
                    f"{entry.value}: the name {spec.name!r} is registered twice in "
                    f"dgray.{self.group}; rename one of the two"
                )
            specs[spec.name] = spec
        return specs

    def __iter__(self) -> Iterator[AnySpec]:
        return iter(self._specs.values())

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __getitem__(self, name: str) -> AnySpec:
        try:
            return self._specs[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._specs, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(self.names)}"
            raise KeyError(f"no {name!r} in dgray.{self.group}; {fix}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of registration."""
        return tuple(self._specs)


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


OBJECTIVES = Registry[ObjectiveSpec](
    "objectives",
    ObjectiveSpec(
        name="oracle",
        title="oracle",
        subject="The oracle",
        factory="dgray.discriminator.discriminator:Oracle",
        kinds=("points",),
        colour="#009E73",
        is_trained=False,
    ),
    ObjectiveSpec(
        name="oscillating",
        title="oscillating control",
        subject="The oscillating control",
        factory="dgray.discriminator.discriminator:Oscillating",
        kinds=("points",),
        colour="#B8860B",
        is_trained=False,
        options=("oscillation",),
    ),
    ObjectiveSpec(
        name="cross_entropy",
        title="cross-entropy",
        subject="Cross-entropy",
        factory="dgray.discriminator.objective:CrossEntropy",
        colour="#D55E00",
        needs_generated=True,
        options=("gradient_penalty",),
    ),
    ObjectiveSpec(
        name="kl",
        title="KL objective",
        subject="The KL objective",
        factory="dgray.discriminator.objective:Kl",
        colour="#0072B2",
    ),
    ObjectiveSpec(
        name="mixed",
        title="mixed objective",
        subject="The mixed objective",
        factory="dgray.discriminator.objective:Mixed",
        colour="#AA4499",
        needs_generated=True,
        options=("gamma",),
    ),
)

SAMPLERS = Registry[SamplerSpec](
    "samplers",
    SamplerSpec(
        name="ode",
        title="probability-flow ODE (Heun)",
        factory="dgray.diffusion.sampler:heun",
        is_stochastic=False,
        is_two_stage=True,
    ),
    SamplerSpec(
        name="churn",
        title="stochastic sampler of EDM",
        factory="dgray.diffusion.sampler:edm_stochastic",
        is_stochastic=True,
        is_two_stage=True,
        options=("churn",),
    ),
    SamplerSpec(
        name="sde",
        title="reverse SDE",
        factory="dgray.diffusion.sampler:reverse_sde",
        is_stochastic=True,
        is_two_stage=False,
    ),
)

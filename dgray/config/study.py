"""Configuration of a trial: the whole study with one value on every training axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dgray.catalogue import (
    METRICS,
    method_name,
)
from dgray.catalogue.objects import install, objects_of
from dgray.config.bases import Base
from dgray.config.correction import Correction
from dgray.config.data import Data, Diffusion
from dgray.config.evaluation import Evaluate
from dgray.config.model import (
    Model,
    PositiveInt,
    Seed,
)
from dgray.config.parts import MetricPart
from dgray.config.resources import Resources
from dgray.config.search import GridSearch, Search
from dgray.config.training import Budget, Discriminator, Fit, MlpDiscriminator

_OBJECTS = "python_objects"  # of a pickled configuration


class StudyConfig(Model):
    """Study whose training axes all have one value; evaluation axes are tuples."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")] = Field(
        description="name of the run folder: at most 100 letters, digits, _ and -"
    )
    description: str = Field("", description="question of the study, printed in the report")
    question: (
        Literal["agreement", "effect", "objectives", "controls", "corrections", "ratio", "samples"]
        | None
    ) = Field(
        None,
        description="what the report answers first: do the metrics agree; what does guidance "
        "change; which objective is better; how do controls behave; which corrections gain at "
        "which cost; how well do discriminators estimate the KL divergence of the base; how does "
        "the error fall with the number of real samples. null: chosen by the metrics and "
        "objectives of the study",
    )
    seed: Seed = Field(0, description="seed of all random numbers")
    replicates: PositiveInt = Field(3, description="seeds per trial, trained together")
    diffusion: Diffusion = Diffusion()
    data: Data
    base: Base
    correction: Correction = Correction()
    discriminator: Discriminator = MlpDiscriminator()
    fit: Fit = Fit()
    budget: Budget = Budget()
    evaluate: Evaluate = Evaluate()
    search: Search = GridSearch(method="grid")
    resources: Resources = Resources()

    @property
    def method(self) -> str:
        """Name of its correction with the objective of its discriminator, if it has one."""
        correction = self.correction
        own = self.fit.objective.name if correction.spec.needs_discriminator else correction.name
        return method_name(correction.name, own)

    @property
    def is_trained(self) -> bool:
        """True if its correction is trained; false for controls."""
        spec = self.correction.spec
        return self.fit.objective.spec.is_trained if spec.needs_discriminator else spec.is_trained

    @property
    def needs_generated(self) -> bool:
        """True if the training of its correction reads samples of the base."""
        spec = self.correction.spec
        return spec.needs_generated or (
            spec.needs_discriminator and self.fit.objective.spec.needs_generated
        )

    @property
    def import_paths(self) -> Iterator[tuple[str, str]]:
        """Fields that name code, each with the import path of the code."""
        evaluate = self.evaluate
        parts: list[tuple[str, Any]] = [
            ("data", self.data),
            ("base", self.base),
            ("correction.kind", self.correction),
            ("discriminator", self.discriminator),
            ("fit.objective", self.fit.objective),
            *(("evaluate.sampler", sampler) for sampler in evaluate.sampler),
            *(("evaluate.metrics", metric) for metric in evaluate.metrics),
        ]
        for field, part in parts:
            for path in (part.spec.factory, getattr(part.spec, "weights", None)):
                if path is not None:
                    yield field, path
        trunk = getattr(self.discriminator, "trunk", "")
        for field, name in (
            ("evaluate.features", evaluate.features),
            ("discriminator.trunk", trunk),
        ):
            if ":" in name:
                yield field, name

    def __getstate__(self) -> dict[Any, Any]:
        """Add the Python objects that it names, so that another process has them."""
        return {**super().__getstate__(), _OBJECTS: objects_of(self.model_dump(mode="json"))}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        install(state[_OBJECTS])
        super().__setstate__({key: value for key, value in state.items() if key != _OBJECTS})

    @model_validator(mode="after")
    def _default_metrics(self) -> Self:
        """Let the default metrics fit the data."""
        if "metrics" not in self.evaluate.model_fields_set:
            metrics = tuple(
                MetricPart(name=spec.name)
                for spec in METRICS.built_in
                if self.data.sample_kind in spec.default_for
                and (self.data.spec.has_density or not spec.needs_density)
            )
            evaluate = self.evaluate.model_copy(update={"metrics": metrics})
            object.__setattr__(self, "evaluate", evaluate)
        return self

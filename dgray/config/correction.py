"""``correction``: the way in which the base is improved."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dgray.catalogue import CORRECTIONS, GUIDANCE, OBJECTIVES, CorrectionSpec, Registry
from dgray.config.model import Model, NonNegativeFloat, PositiveFloat
from dgray.config.parts import BASE, Part, option_arguments, with_name


class CorrectionPart(Part):
    """Correction of the base."""

    registry: ClassVar[Registry[Any]] = CORRECTIONS
    reserved: ClassVar[tuple[str, ...]] = (BASE, *OBJECTIVES.names)

    @property
    def spec(self) -> CorrectionSpec:
        """Its specification; an inline correction trains an ensemble of its own."""
        return self._resolved(CorrectionSpec)


class Correction(Model):
    """Correction of the base; its training is set by ``fit``, its strength is an evaluation axis.

    Fields besides ``kind`` are read by some corrections only.
    """

    kind: Annotated[CorrectionPart, BeforeValidator(with_name)] = Field(
        CorrectionPart(name=GUIDANCE),
        description="guidance: by a discriminator, trained by fit.objective; residual: by a free "
        "vector field; fine_tune: by continued training of a trained base; autoguidance: away "
        "from a weaker model of the size of discriminator; sims: away from a model of the base's "
        "samples; neon: parameters of a trained base, away from training on its own samples; "
        "ddo: fine-tuning of a trained base by its implicit discriminator; rejection, metropolis: "
        "selection among samples of the base by the logit of a discriminator",
    )
    alpha: NonNegativeFloat = Field(
        1.0, description="ddo: factor of the loss on samples of the base"
    )
    beta: PositiveFloat = Field(1.0, description="ddo: scale of the implicit logit")
    max_ratio: Annotated[float, Field(ge=1, le=1000)] = Field(
        20.0,
        description="rejection: bound M of the density ratio, about the proposals per sample; a "
        "higher ratio counts as M",
    )
    moves: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="metropolis: moves of a chain, each with one sample of the base"
    )

    @property
    def name(self) -> str:
        """Name of the correction."""
        return self.kind.name

    @property
    def spec(self) -> CorrectionSpec:
        """Specification of the correction."""
        return self.kind.spec

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the factory: its options of this section, and its ``arguments``."""
        return option_arguments(self, self.spec.options) | self.kind.arguments

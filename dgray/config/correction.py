"""``correction``: the way in which the base is improved."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dgray.catalogue import CORRECTIONS, GUIDANCE, OBJECTIVES, CorrectionSpec, Registry
from dgray.config.model import Model
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
        "vector field; fine_tune: by continued training of a trained base",
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

"""A computation that kills its own process, where workers can import it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dgray.config.study import StudyConfig
from dgray.problem.make_shared import Making, Part, make_base_of_images


class Mortal:
    """The training of a base that ends its process after its first state, unless resumed."""

    def __init__(self, always: bool) -> None:
        self.always = always

    def __call__(
        self,
        config: StudyConfig,
        made: Mapping[str, bytes],
        part: Part | None,
        resume: bytes | None,
    ) -> Making:
        for step in make_base_of_images(config, made, part, resume):
            yield step
            if (resume is None or self.always) and getattr(step, "state", None) is not None:
                os._exit(1)

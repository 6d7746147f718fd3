"""Computations that kill their process, never end or fail; workers import them from here."""

from __future__ import annotations

import os
import time

from dgray.config.study import StudyConfig
from dgray.problem.artifact_table import ArtifactStream, SampleRange, Step
from dgray.problem.artifacts import Shared
from dgray.problem.make_shared import make_trained_base


class Mortal:
    """Training of a base that ends its process after its first state, unless it is resumed."""

    def __call__(
        self,
        config: StudyConfig,
        shared: Shared,
        part: SampleRange | None,
        resume: bytes | None,
    ) -> ArtifactStream:
        for step in make_trained_base(config, shared, part, resume):
            yield step
            if resume is None and getattr(step, "state", None) is not None:
                os._exit(1)


def dying(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """End the process after the first step."""
    yield Step(1, 2, state=b"state")
    os._exit(1)


def endless(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Yield steps for ever."""
    for step in range(10**9):
        yield Step(step, 10**9)
        time.sleep(0.01)


def failing(
    config: StudyConfig, shared: Shared, part: SampleRange | None, resume: bytes | None
) -> ArtifactStream:
    """Raise an error after the first step."""
    yield Step(0, 1)
    time.sleep(0.5)
    raise ValueError("this computation fails")

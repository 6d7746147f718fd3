"""A discriminator that is fitted to a shift, and the denoiser that it guides."""

from __future__ import annotations

import pytest

import dgray
from dgray.guided.discriminator import SampleDiscriminator
from tests.guided.normal import denoise, points


@pytest.fixture(scope="session")
def discriminator() -> SampleDiscriminator:
    return dgray.fit_discriminator(
        points(1000, 0),
        denoise,
        sigmas=(0.01, 50.0),
        discriminator={"width": 16, "depth": 2},
        epochs=40,
        batch_size=250,
        learning_rate=2e-2,
    )


@pytest.fixture(scope="session")
def guided(discriminator: SampleDiscriminator) -> dgray.GuidedDenoiser:
    return dgray.guide(denoise, discriminator)

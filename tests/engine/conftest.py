"""One Ray for all tests of the engines: starting it takes longer than any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_running() -> Iterator[None]:
    import ray

    from dgray.engine.ray_session import ray_session

    with ray_session():
        assert ray.is_initialized()
        yield
    assert not ray.is_initialized()

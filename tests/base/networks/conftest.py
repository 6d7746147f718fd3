"""EDM's golden values, and pickles like EDM's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.preconditioning import Preconditioned
from tests.base.networks.edm_records import as_records, stand_in
from tests.base.networks.network_cases import Golden, read_golden


@pytest.fixture(params=["songunet_vp_uncond_16px", "songunet_ve_cond_16px"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return read_golden(request.param)


@pytest.fixture
def reconstruct(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return stand_in(monkeypatch, "torch_utils.persistence", "_reconstruct_persistent_obj")


@pytest.fixture
def records(reconstruct: Callable[..., Any]) -> Callable[..., Any]:
    """A network as EDM would pickle it, given its architecture."""

    def convert(module: Preconditioned, architecture: EdmArchitecture, **state: Any) -> Any:
        kwargs = architecture.to_json()["init_kwargs"]
        return as_records(module, reconstruct, **{"_init_kwargs": kwargs} | state)

    return convert

import math

import pytest
import safetensors.torch
import torch

from dgray.base.fit import BaseSchedule
from dgray.base.fit_network import (
    BaseArchitecture,
    build_network,
    channel_multipliers,
)
from dgray.base.fit_state import BaseState, ramped_decay, read_metadata, to_safetensors
from dgray.catalogue import default_network

TINY = BaseArchitecture("mlp", (1,), width=2, depth=1, sigma_data=1.0)


def test_the_average_is_the_weighted_sum_of_all_weights() -> None:
    """An average with decays b_1..b_n gives weight t the share (1 - b_t) b_(t+1) ... b_n."""
    torch.manual_seed(0)
    state = BaseState.start(build_network(TINY))
    history = []
    for _ in range(17):  # the ramp reaches a decay of 0.4 at step 16
        loss = sum(((p - 1) ** 2).sum() for p in state.network.parameters())
        assert isinstance(loss, torch.Tensor)
        state.advance(loss, 0.1, 0.4)
        history.append([p.detach().double().clone() for p in state.network.parameters()])
    decays = [min(0.4, 0.5 ** (20 / t)) for t in range(1, 18)]
    shares = [(1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(17)]
    for i, averaged in enumerate(state.average.values()):
        expected = sum(share * now[i] for share, now in zip(shares, history, strict=True))
        torch.testing.assert_close(averaged.double(), expected, rtol=1e-6, atol=1e-6)
        assert (averaged - history[-1][i]).abs().max() > 1e-3


def test_the_half_life_rises_to_that_of_the_decay() -> None:
    half_lives = [math.log(0.5) / math.log(ramped_decay(0.999, t)) for t in (20, 2000, 10**6)]
    assert half_lives == pytest.approx([1, 100, math.log(0.5) / math.log(0.999)])
    assert ramped_decay(0.0, 500) == 0


def test_without_a_decay_the_average_is_the_weights() -> None:
    state = BaseState.start(build_network(TINY))
    for _ in range(3):
        loss = sum((p**2).sum() for p in state.network.parameters())
        assert isinstance(loss, torch.Tensor)
        state.advance(loss, 0.1, 0.0)
    for name, parameter in state.network.named_parameters():
        assert torch.equal(state.average[name], parameter)


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = BaseSchedule(100, 1, 2.0, warmup=10, learning_rate_decay="cosine")
    assert schedule.rate(0) == pytest.approx(0.2)
    assert schedule.rate(50) == pytest.approx(1.0)
    assert schedule.rate(99) == pytest.approx(1 + math.cos(0.99 * math.pi))
    constant = BaseSchedule(100, 1, 2.0)
    assert {constant.rate(step) for step in range(100)} == {2.0}


def test_networks_by_default() -> None:
    assert [default_network(s) for s in ((2,), (100,), (1, 8, 8), (1, 16, 16), (3, 32, 32))] == [
        "mlp",
        "mlp",
        "mlp",
        "unet",
        "unet",
    ]


@pytest.mark.parametrize(
    ("resolution", "multipliers"),
    [(8, (1, 2)), (16, (1, 2, 2)), (28, (1, 2, 2)), (32, (1, 2, 2, 2)), (7, (1,))],
)
def test_levels_of_a_unet(resolution: int, multipliers: tuple[int, ...]) -> None:
    assert channel_multipliers(resolution) == multipliers
    architecture = BaseArchitecture("unet", (1, resolution, resolution), 8, 1, 0.5)
    network = build_network(architecture)
    images = torch.zeros(2, 1, resolution, resolution)
    assert network(images, torch.ones(2)).shape == images.shape


def test_equal_content_gives_equal_bytes_with_its_text() -> None:
    tensors = {name: torch.arange(3.0) for name in "cab"}
    first = to_safetensors(tensors, "text")
    assert first == to_safetensors(dict(sorted(tensors.items())), "text")
    assert read_metadata(first) == "text"
    assert set(safetensors.torch.load(first)) == {"a", "b", "c"}

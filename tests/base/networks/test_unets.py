"""Both U-Nets against a NumPy one, in every form; derivatives; training mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from dgray.base.networks.unets.layers import (
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Init,
    Linear,
    PositionalEmbedding,
)
from tests.base.networks.network_cases import tiny
from tests.base.networks.reference_unet import Reference, double, halve

NCSNPP = {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
SKIPPING = {"encoder_type": "skip", "decoder_type": "skip"}
CASES: dict[str, dict[str, Any]] = {
    "ddpmpp": {},
    "ddpmpp conditional": {"label_dim": 3},
    "ddpmpp augmented": {"augment_dim": 9},
    "ncsnpp": NCSNPP,
    "ncsnpp conditional and augmented": NCSNPP | {"label_dim": 3, "augment_dim": 9},
    "three levels, deeper": {"channel_mult": [1, 2, 1], "num_blocks": 2, "attn_resolutions": [4]},
    "skips": SKIPPING | {"resample_filter": [1, 3, 3, 1], "channel_mult": [1, 2, 2]},
    "lopsided filter": SKIPPING | {"resample_filter": [1, 2, 4, 1]},
    "residual encoder, skip decoder": NCSNPP
    | {"decoder_type": "skip", "embedding_type": "positional"},
    "no attention": {"attn_resolutions": []},
    "adm without attention": {
        "model_type": "DhariwalUNet",
        "model_channels": 64,
        "attn_resolutions": [],
    },
    "adm": {"model_type": "DhariwalUNet", "model_channels": 64, "attn_resolutions": [4]},
    "adm conditional": {"model_type": "DhariwalUNet", "model_channels": 32, "label_dim": 3},
    "adm augmented": {"model_type": "DhariwalUNet", "model_channels": 32, "augment_dim": 9},
}


@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case: str) -> None:
    options = CASES[case]
    model = tiny(**options).model
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(3, 2, 8, 8)), np.array([-1.3, 0.2, 1.1])
    one_hot = np.eye(3)[[2, 0, 1]] if options.get("label_dim") else None
    augment = rng.normal(size=(3, 9)) if options.get("augment_dim") else None
    state = {name: weight.double().numpy() for name, weight in model.state_dict().items()}
    is_song = options.get("model_type") != "DhariwalUNet"
    reference = Reference(state, is_song, tuple(options.get("resample_filter", (1, 1))))
    expected = reference(x, noise, one_hot, augment)
    with torch.no_grad():
        inputs = (x, noise, one_hot, augment)
        output = model(*(None if v is None else torch.from_numpy(v) for v in inputs))
    assert np.abs(expected).max() > 1e-2
    # the positional frequencies are float32, as EDM's are
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=3e-6)


def test_adm_has_several_heads() -> None:
    model = tiny(model_type="DhariwalUNet", model_channels=64, attn_resolutions=[4]).model
    assert model.enc["4x4_block0"].num_heads == 2
    assert model.enc["8x8_block0"].num_heads == 0
    assert model.dec["4x4_in0"].num_heads == 2


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 4, 1)])
def test_resampling(taps: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = np.array(taps) / sum(taps)
    nothing = Init("xavier_uniform")
    up = Conv2d(3, 3, 0, nothing, up=True, resample_filter=taps)
    down = Conv2d(3, 3, 0, nothing, down=True, resample_filter=taps)
    assert_close(down(x), torch.from_numpy(halve(x.numpy(), unit)))
    assert_close(up(x), torch.from_numpy(double(x.numpy(), unit)))
    assert up(x).shape == (2, 3, 12, 12)
    assert down(x).shape == (2, 3, 3, 3)


def test_box_filter_averages_and_repeats() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    nothing = Init("xavier_uniform")
    assert_close(Conv2d(1, 1, 0, nothing, down=True)(x), functional.avg_pool2d(x, 2))
    assert_close(
        Conv2d(1, 1, 0, nothing, up=True)(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    )


def test_positional_embeddings_end_where_they_should() -> None:
    number = torch.tensor([1.0])
    song = PositionalEmbedding(8, endpoint=True)(number)[0]
    adm = PositionalEmbedding(8, endpoint=False)(number)[0]
    assert_close(song[:4], torch.cos(torch.tensor([1, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])))
    assert_close(adm[4:], torch.sin(torch.tensor([1, 0.1, 0.01, 0.001])))


def test_fourier_frequencies_are_drawn_once_with_scale_16() -> None:
    torch.manual_seed(0)
    embedding = FourierEmbedding(40_000)
    assert abs(float(embedding.freqs.std()) - 16) < 0.3
    assert_close(
        embedding(torch.zeros(1)), torch.tensor([[1.0, 0.0]]).repeat_interleave(20_000, 1)
    )


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (64, 16), (128, 32), (256, 32)])
def test_groups(channels: int, groups: int) -> None:
    assert GroupNorm(channels, 1e-6).groups == groups


@torch.no_grad()
def test_initial_weights() -> None:
    torch.manual_seed(0)
    xavier = Linear(300, 500, Init("xavier_uniform", weight=0.5))
    assert_close(float(xavier.weight.abs().max()), 0.5 * (6 / 800) ** 0.5, rtol=1e-3, atol=0)
    assert xavier.bias is not None
    assert not xavier.bias.any()
    kaiming = Conv2d(64, 32, 3, Init("kaiming_uniform", weight=(1 / 3) ** 0.5, bias=1.0))
    assert kaiming.weight is not None
    assert kaiming.bias is not None
    assert_close(float(kaiming.weight.std()), (1 / 3 / 576) ** 0.5, rtol=2e-2, atol=0)
    assert 0 < float(kaiming.bias.abs().max()) <= (3 / 576) ** 0.5
    normal = Linear(100, 400, Init("kaiming_normal", weight=10))
    assert_close(float(normal.weight.std()), 1.0, rtol=2e-2, atol=0)


@pytest.mark.parametrize("case", ["ncsnpp", "skips", "adm conditional"])
def test_second_derivatives_reach_every_weight(case: str) -> None:
    model = tiny(**CASES[case]).model.train().double()
    torch.manual_seed(1)
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    noise, label = torch.tensor([-1.0, 0.5], dtype=torch.float64), None
    if CASES[case].get("label_dim"):
        label = torch.eye(3, dtype=torch.float64)[:2]
    torch.manual_seed(2)  # dropout
    output = model(x, noise, label)
    (gradient,) = torch.autograd.grad((output**3).sum(), x, create_graph=True)
    seconds = torch.autograd.grad((gradient**2).sum(), list(model.parameters()), allow_unused=True)
    for (name, _), second in zip(model.named_parameters(), seconds, strict=True):
        # a bias of the last layer shifts the output, whose cube still bends
        assert second is not None, name
        assert bool(second.any()), name


def test_second_derivative_of_attention_is_right() -> None:
    block = tiny(attn_resolutions=[8]).model.double().enc["8x8_block0"]
    torch.manual_seed(0)
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    emb = torch.randn(1, 32, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda image: block(image, emb), x)


def test_no_sample_sees_another() -> None:
    model = tiny(label_dim=3).model
    torch.manual_seed(0)
    x, noise, labels = torch.randn(5, 2, 8, 8), torch.randn(5), torch.eye(3)[[0, 1, 2, 0, 1]]
    with torch.no_grad():
        together = model(x, noise, labels)
        apart = [model(x[i : i + 1], noise[i : i + 1], labels[i : i + 1]) for i in range(5)]
    assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_dropout_and_label_dropout_act_in_training_only() -> None:
    module = tiny(label_dim=3, label_dropout=0.5, dropout=0.0)
    x, noise = torch.ones(64, 2, 8, 8), torch.zeros(64)
    labels = torch.eye(3)[torch.zeros(64, dtype=torch.int64)]
    with torch.no_grad():
        none, conditioned = module.model(x, noise, 0 * labels), module.model(x, noise, labels)
        torch.manual_seed(0)
        trained = module.model.train()(x, noise, labels)
    is_none = (trained - none).abs().amax((1, 2, 3)) < 1e-5
    is_given = (trained - conditioned).abs().amax((1, 2, 3)) < 1e-5
    assert bool((is_none ^ is_given).all())
    assert 15 < int(is_none.sum()) < 49
    with torch.no_grad():
        wet, wetter = (tiny(dropout=0.5).model.train()(x, noise, None) for _ in range(2))
    assert_close(wet, wetter)  # the same seed
    assert bool((wet - tiny(dropout=0.5).model(x, noise, None)).abs().max() > 1e-2)


@pytest.mark.parametrize("case", ["ncsnpp", "adm conditional"])
def test_half_precision_is_close(case: str) -> None:
    """The way of float16 on CUDA: weights stay float32 and are cast to the images' dtype."""
    model = tiny(**CASES[case]).model
    torch.manual_seed(0)
    x, noise = torch.randn(2, 2, 8, 8), torch.tensor([-1.0, 0.5])
    labels = torch.eye(3)[:2] if CASES[case].get("label_dim") else None
    with torch.no_grad():
        single, half = model(x, noise, labels), model(x.half(), noise, labels)
    assert half.dtype == torch.float16
    assert_close(half.float(), single, rtol=0, atol=2e-2 * float(single.abs().max()))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}

"""Convolutional ensembles: labels, dropout, initial weights, and shapes that are refused."""

from __future__ import annotations

import itertools

import pytest
import torch

from dgray.discriminator.conv import initialise_conv
from dgray.discriminator.conv_network import ConvShape
from tests.discriminator.conv_ensembles import (
    SHAPES,
    generators,
    noisy_images,
    perturbed,
    random_conv,
)


def test_logit_depends_on_the_label() -> None:
    net = random_conv(SHAPES["attention"])
    x, sigma = noisy_images(3, 5, 36)
    logits = [
        net.with_labels(torch.full((3, 5), label)).logit(x, sigma) for label in (-1, 0, 1, 2)
    ]
    torch.testing.assert_close(net.logit(x, sigma), logits[0])
    for a, b in itertools.combinations(logits, 2):
        assert (a != b).all()
    mixed = net.with_labels(torch.tensor([0, -1, 2, 2, 1])).logit(x, sigma)
    torch.testing.assert_close(mixed[:, 2], logits[3][:, 2])
    torch.testing.assert_close(mixed[:, 1], logits[0][:, 1])


def test_invalid_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="classes from 0 to 2, or -1 for none, but one is 3"):
        random_conv(SHAPES["attention"]).with_labels(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"set discriminator\.conditional: true"):
        random_conv(SHAPES["plain"]).with_labels(torch.tensor([0]))


def test_attention_over_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one pixel"):
        ConvShape(image=(64, 1, 1), width=4, depth=1, attention=True)


def test_members_are_drawn_apart() -> None:
    together = initialise_conv(SHAPES["attention"], 0.5, generators(3))
    alone = initialise_conv(SHAPES["attention"], 0.5, generators(3)[2:])
    for a, b in zip(together.member(2).tensors, alone.member(0).tensors, strict=True):
        assert torch.equal(a, b)
    weights = together.parameters["block.0.conv.0.weight"]
    assert not torch.equal(weights[0], weights[1])


def test_num_parameters_counts_one_network() -> None:
    net = initialise_conv(SHAPES["plain"], 0.5, generators(3))
    embed = (3 * 16 + 16) + (16 * 16 + 16)
    first = 2 * 4 + (4 * 4 * 9 + 4) + (8 * 16 + 8) + (4 * 4 * 9 + 4)
    second = 2 * 4 + (8 * 4 * 9 + 8) + (16 * 16 + 16) + (8 * 8 * 9 + 8) + 8 * 4
    assert net.num_parameters == embed + (4 * 9 + 4) + first + second + 2 * 8 + (8 + 1)
    assert net.num_parameters == sum(t[0].numel() for t in net.tensors)


def test_dropout_drops_channels_of_rows_and_keeps_the_mean() -> None:
    net = random_conv(SHAPES["deep"])
    x, sigma = noisy_images(3, 5, 50)
    dropped = net.dropped(0.4, generators(3), 5)
    assert not torch.allclose(dropped.logit(x, sigma), net.logit(x, sigma))
    x = x.requires_grad_()
    (expected,) = torch.autograd.grad(dropped.logit(x, sigma).sum(), x)
    torch.testing.assert_close(dropped.gradient(x, sigma), expected)
    alone = perturbed(initialise_conv(SHAPES["deep"], 0.5, generators(1))).dropped(
        0.4, generators(1), 5
    )
    for together, single in zip(dropped.masks, alone.masks, strict=True):
        assert torch.equal(together[0], single[0])
    many = torch.cat([mask.flatten() for mask in net.dropped(0.25, generators(3), 500).masks])
    assert float(many.mean()) == pytest.approx(1, abs=0.02)
    assert float((many == 0).double().mean()) == pytest.approx(0.25, abs=0.02)

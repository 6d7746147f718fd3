"""Convolutional ensembles against an independent network, finite differences and their members."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.discriminator import autograd_ensemble
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Kl,
    Mixed,
    Noised,
    Objective,
    Outputs,
)
from tests.discriminator import reference_conv
from tests.discriminator.conv_ensembles import SHAPES, generators, noisy_images, random_conv

# A constant in the logit is in no gradient; every other parameter is.
NOT_IN_THE_GRADIENT = {"out.bias"}


@pytest.fixture(params=sorted(SHAPES))
def net(request: pytest.FixtureRequest) -> ConvNet:
    net = random_conv(SHAPES[request.param])
    if net.num_classes:
        return net.with_labels(
            torch.randint(-1, 3, (3, 5), generator=torch.Generator().manual_seed(1))
        )
    return net


@pytest.fixture
def points(net: ConvNet) -> tuple[Tensor, Tensor]:
    return noisy_images(3, 5, int(np.prod(net.shape.image)))


def batch_for(net: ConvNet, points: tuple[Tensor, Tensor]) -> Batch:
    x, sigma = points
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    real, generated = (Noised.of(clean, noise, sigma, net.labels) for clean in (x, x.flip(1)))
    return Batch(real, lambda: noise.flip(-1), generated)


def member_of(net: ConvNet, index: int) -> ConvNet:
    member = net.member(index)
    return member if net.labels is None else member.with_labels(net.labels[index])


def test_logit_is_that_of_an_independent_network(
    net: ConvNet, points: tuple[Tensor, Tensor]
) -> None:
    x, sigma = points
    logits = net.logit(x, sigma)
    for r, n in itertools.product(range(3), range(2)):
        parameters = {name: t[r].numpy() for name, t in net.parameters.items()}
        level = float(sigma[r, n])
        image = x[r, n].numpy().reshape(net.shape.image) / np.sqrt(level**2 + 0.5**2)
        label = -1 if net.labels is None else int(net.labels[r, n])
        expected = reference_conv.logit(
            parameters, image, level, depth=net.shape.depth, label=label
        )
        assert float(logits[r, n]) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_gradient_and_laplacian_are_those_of_the_logit(
    net: ConvNet, points: tuple[Tensor, Tensor]
) -> None:
    x, sigma = points
    gradient, laplacian = net.gradient_and_laplacian(x, sigma)
    torch.testing.assert_close(net.gradient(x, sigma), gradient)
    step = 1e-4
    total = torch.zeros_like(sigma)
    with torch.no_grad():
        for i in range(x.shape[-1]):
            along = step * torch.eye(x.shape[-1], dtype=x.dtype)[i]
            up, centre, down = (net.logit(x + s * along, sigma) for s in (1, 0, -1))
            torch.testing.assert_close(
                gradient[..., i], (up - down) / (2 * step), rtol=1e-5, atol=1e-7
            )
            total += (up - 2 * centre + down) / step**2
    torch.testing.assert_close(laplacian, total, rtol=1e-4, atol=1e-5)


def test_probes_estimate_the_laplacian() -> None:
    """Over the rows of a Hadamard matrix the mean of v v^T is the identity, so it is exact."""
    net = random_conv(ConvShape(image=(1, 4, 4), width=4, depth=1))
    x, sigma = noisy_images(3, 2, 16)
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(4):
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double(), hadamard)
    probes = hadamard[:, None, None].expand(16, 3, 2, 16)
    exact = net.gradient_and_laplacian(x, sigma)
    torch.testing.assert_close(net.gradient_and_laplacian(x, sigma, probes), exact)
    few = net.gradient_and_laplacian(x, sigma, probes[:2])
    torch.testing.assert_close(few[0], exact[0])
    assert not torch.allclose(few[1], exact[1])


@pytest.mark.parametrize(
    "objective", [Kl(), CrossEntropy(0.1), Mixed(0.5)], ids=["kl", "penalised", "mixed"]
)
def test_every_parameter_receives_the_gradient_of_the_objective(
    net: ConvNet, points: tuple[Tensor, Tensor], objective: Objective
) -> None:
    """Double backward reaches all of them, in every replicate, and is right."""
    batch = batch_for(net, points)

    def loss(candidate: ConvNet) -> Tensor:
        return objective(Outputs(candidate, batch)).mean()

    training = net.with_tensors([t.clone().requires_grad_() for t in net.tensors])
    by_name = dict(
        zip(
            training.parameters,
            torch.autograd.grad(loss(training), training.tensors, allow_unused=True),
            strict=True,
        )
    )
    if isinstance(objective, Kl):
        for name in NOT_IN_THE_GRADIENT:
            unseen = by_name.pop(name)
            assert unseen is None or not unseen.any()
    generator, step = torch.Generator().manual_seed(3), 1e-6
    for name, gradient in by_name.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert gradient.flatten(1).norm(dim=1).min() > 1e-9, name
        direction = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        moved = [
            net.with_tensors(
                [
                    t + s * step * direction if other == name else t
                    for other, t in net.parameters.items()
                ]
            )
            for s in (1, -1)
        ]
        slope = float((loss(moved[0]) - loss(moved[1])).detach() / (2 * step))
        derivative = float((gradient * direction).sum())
        assert derivative == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_from_its_start_training_moves_the_last_layer() -> None:
    """At zero the last layer hides the others from the objective, but is seen itself."""
    net = initialise_conv(SHAPES["deep"], 0.5, generators(2))
    net = net.with_tensors([t.requires_grad_() for t in net.tensors])
    x, sigma = (t[:2].float() for t in noisy_images(2, 5, 50))
    assert not net.gradient(x, sigma).any()
    loss = Kl()(Outputs(net, batch_for(net, (x, sigma)))).mean()
    (slope,) = torch.autograd.grad(loss, net.parameters["out.weight"])
    assert slope.abs().min() > 0


def test_a_member_is_its_part_of_the_ensemble(net: ConvNet, points: tuple[Tensor, Tensor]) -> None:
    x, sigma = points
    logit, derivatives = net.logit(x, sigma), net.gradient_and_laplacian(x, sigma)
    for i in range(3):
        member = member_of(net, i)
        torch.testing.assert_close(member.logit(x[i], sigma[i]), logit[i])
        torch.testing.assert_close(member.gradient(x[i], sigma[i]), derivatives[0][i])
        torch.testing.assert_close(
            member.gradient_and_laplacian(x[i], sigma[i]), tuple(t[i] for t in derivatives)
        )


def test_rows_may_be_shared_by_all_members() -> None:
    net = random_conv(SHAPES["deep"])
    x, sigma = noisy_images(1, 5, 50)
    repeated = x.expand(3, -1, -1), sigma.expand(3, -1)
    torch.testing.assert_close(net.logit(x, sigma), net.logit(*repeated))
    torch.testing.assert_close(net.gradient(x, sigma), net.gradient(*repeated))
    torch.testing.assert_close(
        net.gradient_and_laplacian(x, sigma), net.gradient_and_laplacian(*repeated)
    )


def test_more_leading_dimensions_change_nothing() -> None:
    member = random_conv(SHAPES["attention"]).member(1)
    x, sigma = noisy_images(3, 4, 36)
    labels = torch.arange(12).reshape(3, 4) % 4 - 1
    probes = torch.randint(2, (2, 3, 4, 36), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    grid = member.with_labels(labels).gradient_and_laplacian(x, sigma, probes)
    flat = member.with_labels(labels.flatten()).gradient_and_laplacian(
        x.flatten(0, 1), sigma.flatten(), probes.flatten(1, 2)
    )
    torch.testing.assert_close(grid[0].flatten(0, 1), flat[0])
    torch.testing.assert_close(grid[1].flatten(), flat[1])
    one = member.with_labels(labels[0, 0]).logit(x[0, 0], sigma[0, 0])
    torch.testing.assert_close(one, member.with_labels(labels).logit(x, sigma)[0, 0])


def test_blocks_of_rows_change_nothing(
    net: ConvNet, points: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = net.logit(*points), *net.gradient_and_laplacian(*points)
    monkeypatch.setattr(autograd_ensemble, "BLOCK_ELEMENTS", 1)
    with torch.no_grad():
        torch.testing.assert_close(net.logit(*points), expected[0])
        torch.testing.assert_close(net.gradient(*points), expected[1])
    torch.testing.assert_close(net.gradient_and_laplacian(*points), expected[1:])


def test_no_sample_sees_another() -> None:
    shape = ConvShape(image=(1, 8, 8), width=8, depth=1, attention=True)
    net = initialise_conv(shape, 0.5, generators(1)).member(0)
    net = net.with_tensors([t + 0.1 for t in net.tensors])  # float32, last layer not zero
    x, sigma = (t.float()[0] for t in noisy_images(1, 9, 64))
    alone = torch.cat([net.gradient(x[i : i + 1], sigma[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(net.gradient(x, sigma), alone, rtol=1e-5, atol=1e-5)
    other = x.clone()
    other[0] = torch.nan
    assert torch.isfinite(net.gradient(other, sigma)[1:]).all()


@pytest.mark.parametrize("side", [7, 28])
def test_every_pixel_is_seen(side: int) -> None:
    """An odd edge is not cut off by pooling."""
    net = random_conv(ConvShape(image=(1, side, side), width=4, depth=1), members=1)
    x, sigma = noisy_images(1, 2, side**2)
    assert net.gradient(x, sigma).abs().min() > 0

"""The network's written-out derivatives against automatic differentiation, and its ensembles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgray.discriminator.mlp import ACTIVATIONS, Mlp, MlpShape, initialise

Points = tuple[Tensor, Tensor]


def autograd_derivatives(mlp: Mlp, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mlp.logit(x, sigma).sum(), x, create_graph=True)
    laplacian = torch.zeros_like(sigma)
    for i in range(x.shape[-1]):
        (row,) = torch.autograd.grad(gradient[..., i].sum(), x, retain_graph=True)
        laplacian = laplacian + row[..., i]
    return gradient.detach(), laplacian


def test_gradient_and_laplacian_are_autograds(ensemble: Mlp, noisy_points: Points) -> None:
    expected = autograd_derivatives(ensemble, *noisy_points)
    torch.testing.assert_close(ensemble.gradient(*noisy_points), expected[0])
    torch.testing.assert_close(ensemble.gradient_and_laplacian(*noisy_points), expected)


def test_a_member_is_its_part_of_the_ensemble(ensemble: Mlp, noisy_points: Points) -> None:
    x, sigma = noisy_points
    for i in range(3):
        member = ensemble.member(i)
        torch.testing.assert_close(member.logit(x[i], sigma[i]), ensemble.logit(x, sigma)[i])
        torch.testing.assert_close(
            member.gradient_and_laplacian(x[i], sigma[i]),
            tuple(t[i] for t in ensemble.gradient_and_laplacian(x, sigma)),
        )


def test_more_leading_dimensions_change_nothing(ensemble: Mlp, noisy_points: Points) -> None:
    x, sigma = noisy_points
    member = ensemble.member(0)
    grid = member.gradient_and_laplacian(x, sigma)
    flat = member.gradient_and_laplacian(x.flatten(0, 1), sigma.flatten())
    torch.testing.assert_close(grid[0].flatten(0, 1), flat[0])
    torch.testing.assert_close(grid[1].flatten(), flat[1])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_derivatives(name: str) -> None:
    h = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    value, first, second = ACTIVATIONS[name](h, 2)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name](h, 0)[0].sum(), h, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), h)
    torch.testing.assert_close(first, slope)
    torch.testing.assert_close(second, curvature)
    torch.testing.assert_close(value, ACTIVATIONS[name](h, 1)[0])


def test_members_are_drawn_apart() -> None:
    shape = MlpShape(dimension=2, width=5, depth=2)
    together = initialise(shape, 1.0, [torch.Generator().manual_seed(i) for i in range(3)])
    alone = initialise(shape, 1.0, [torch.Generator().manual_seed(2)])
    for a, b in zip(together.member(2).tensors, alone.member(0).tensors, strict=True):
        assert torch.equal(a, b)


def test_guidance_starts_at_zero(noisy_points: Points) -> None:
    shape = MlpShape(dimension=2, width=5, depth=2)
    mlp = initialise(shape, 1.0, [torch.Generator().manual_seed(i) for i in range(3)])
    assert torch.equal(mlp.gradient(*noisy_points), torch.zeros_like(noisy_points[0]))


def test_num_parameters_counts_one_network() -> None:
    mlp = initialise(MlpShape(dimension=2, width=5, depth=2), 1.0, [torch.Generator()] * 3)
    assert mlp.num_parameters == (2 + 3) * 5 + 5 + 5 * 5 + 5 + 5 + 1


def test_dropout_gradient_is_that_of_the_dropped_logit(
    ensemble: Mlp, noisy_points: Points
) -> None:
    x, sigma = noisy_points[0].requires_grad_(), noisy_points[1]
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    dropped = ensemble.dropped(0.4, generators, 11)
    (expected,) = torch.autograd.grad(dropped.logit(x, sigma).sum(), x)
    torch.testing.assert_close(dropped.gradient(x, sigma), expected)
    assert not torch.allclose(dropped.logit(x, sigma), ensemble.logit(x, sigma))


def test_dropout_keeps_the_mean() -> None:
    mlp = initialise(MlpShape(dimension=2, width=4000, depth=1), 1.0, [torch.Generator()])
    (mask,) = mlp.dropped(0.25, [torch.Generator().manual_seed(0)], 10).masks
    assert float(mask.mean()) == pytest.approx(1, abs=0.02)
    assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_conditional_network_reads_the_class_of_each_row() -> None:
    shape = MlpShape(dimension=2, width=9, depth=2, num_classes=3)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    mlp = initialise(shape, 0.5, generators)
    mlp = mlp.with_tensors([t.double() + 0.1 for t in mlp.tensors])
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 30, 2, generator=generator, dtype=torch.float64)
    sigma = torch.rand(2, 30, generator=generator, dtype=torch.float64) + 0.1
    labels = torch.arange(60).reshape(2, 30) % 4 - 1
    bound = mlp.with_labels(labels)
    logits = bound.logit(x, sigma)
    for label in (-1, 0, 2):
        alone = mlp.with_labels(torch.tensor(label)).logit(x, sigma)
        torch.testing.assert_close(logits[labels == label], alone[labels == label])
    assert torch.equal(mlp.logit(x, sigma), mlp.with_labels(torch.tensor(-1)).logit(x, sigma))
    assert not torch.allclose(logits[labels == 0], mlp.logit(x, sigma)[labels == 0])
    expected = autograd_derivatives(bound, x, sigma)
    torch.testing.assert_close(bound.gradient(x, sigma), expected[0])
    torch.testing.assert_close(bound.gradient_and_laplacian(x, sigma), expected)
    with torch.no_grad():  # in blocks
        many = mlp.member(0).with_labels(labels[0].repeat(1000))
        in_blocks = many.logit(x[0].repeat(1000, 1), sigma[0].repeat(1000))
    torch.testing.assert_close(in_blocks[-30:], logits[0])
    with pytest.raises(ValueError, match="must be classes from 0 to 2"):
        mlp.with_labels(torch.tensor([3]))

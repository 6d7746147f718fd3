"""Frozen trunks: what runs, how often, and that both derivatives pass through them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.objective import Batch, Kl, Noised, Outputs
from dgray.discriminator.trunk import ModuleTrunk, Trunk, load_trunk
from tests.discriminator.conv_ensembles import noisy_images, random_conv

IMAGE = (1, 6, 6)
CPU = torch.device("cpu")

MODULE = """
import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3, stride=2, padding=1)

    def forward(self, images, sigma):
        return torch.tanh(self.conv(images / (1 + sigma[:, None, None, None])))


def build():
    torch.manual_seed(0)
    return Classifier()


def number():
    return 3
"""


class Small(nn.Module):
    """Features of two convolutions that know the noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        h = self.first(images / torch.sqrt(sigma**2 + 0.25)[:, None, None, None])
        return self.second(torch.nn.functional.silu(h))


def small_trunk() -> ModuleTrunk:
    torch.manual_seed(0)
    return ModuleTrunk.of(Small(), IMAGE)


def double_trunk() -> ModuleTrunk:
    trunk = small_trunk()
    trunk.module.double()
    return trunk


@dataclass(frozen=True)
class Counting:
    """A trunk that notes how many rows each call had."""

    inner: Trunk
    rows: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    @property
    def activation_size(self) -> int:
        return self.inner.activation_size

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.inner(x, sigma)


def head(trunk: Trunk, members: int = 3) -> ConvNet:
    shape = ConvShape(image=trunk.shape, width=4, depth=1)
    return random_conv(shape, members, trunk)


def test_the_head_is_a_network_on_the_features() -> None:
    trunk = double_trunk()
    net = head(trunk)
    x, sigma = noisy_images(3, 4, 36)
    # no trunk: maps that are already scaled, so undo the scale of an image
    features = trunk(x.flatten(0, 1), sigma.flatten()).reshape(3, 4, -1)
    alone = replace(net, trunk=None)
    undone = features * torch.sqrt(sigma**2 + net.sigma_data**2)[..., None]
    torch.testing.assert_close(net.logit(x, sigma), alone.logit(undone, sigma))


def test_one_trunk_call_serves_all_replicates() -> None:
    trunk = Counting(double_trunk())
    net = head(trunk)
    net.logit(*noisy_images(3, 4, 36))
    assert trunk.rows == [12]
    shared = noisy_images(1, 4, 36)
    logit, gradient = net.logit(*shared), net.gradient(*shared)
    assert trunk.rows == [12, 4, 4]  # rows that all members share go through it once
    for r in range(3):
        member = net.member(r)
        torch.testing.assert_close(logit[r], member.logit(shared[0][0], shared[1][0]))
        torch.testing.assert_close(gradient[r], member.gradient(shared[0][0], shared[1][0]))


def test_derivatives_pass_through_the_trunk() -> None:
    net = head(double_trunk()).member(0)
    x, sigma = (t[0] for t in noisy_images(1, 2, 36))
    gradient, laplacian = net.gradient_and_laplacian(x, sigma)

    def logit(row: Tensor) -> Tensor:
        return net.logit(row[None], sigma[:1])[0]

    hessian = torch.autograd.functional.hessian(logit, x[0])
    torch.testing.assert_close(laplacian[0], hessian.trace())
    step = 1e-5 * torch.eye(36, dtype=torch.float64)
    slopes = torch.stack([(logit(x[0] + s) - logit(x[0] - s)) / 2e-5 for s in step]).detach()
    torch.testing.assert_close(gradient[0], slopes, rtol=1e-6, atol=1e-8)


def test_the_kl_objective_trains_the_head_and_leaves_the_trunk() -> None:
    trunk = double_trunk()
    net = head(trunk, 2)
    training = net.with_tensors([t.clone().requires_grad_() for t in net.tensors])
    x, sigma = noisy_images(2, 3, 36)
    batch = Batch(Noised.of(x, x.flip(-1), sigma), x.cos, None)

    def loss(candidate: ConvNet) -> Tensor:
        return Kl()(Outputs(candidate, batch)).mean()

    loss(training).backward()
    assert all(p.grad is None for p in trunk.module.parameters())
    for name, t in training.parameters.items():
        if name == "out.bias":
            continue
        assert t.grad is not None, name
        assert t.grad.flatten(1).norm(dim=1).min() > 1e-9, name
    name, step = "block.0.conv.1.weight", 1e-6
    direction = torch.randn_like(net.parameters[name])
    moved = [
        loss(replace(net, parameters={**net.parameters, name: t})).detach()
        for t in (net.parameters[name] + s * step * direction for s in (1, -1))
    ]
    expected = float((moved[0] - moved[1]) / (2 * step))
    grad = training.parameters[name].grad
    assert grad is not None
    assert float((grad * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_a_users_function_is_a_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_classifier.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    trunk = load_trunk("users_classifier:build", IMAGE, CPU)
    assert trunk.shape == (5, 3, 3)
    assert not any(p.requires_grad for p in trunk.module.parameters())
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module, but returned int"):
        load_trunk("users_classifier:number", IMAGE, CPU)
    with pytest.raises(ValueError, match=r"cannot be imported .*users_classifier"):
        load_trunk("users_classifier:nothing", IMAGE, CPU)


def test_a_torchscript_file_is_a_trunk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Small(), tmp_path / "classifier.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), path)
    trunk = load_trunk(str(path), IMAGE, CPU)
    x, sigma = (t.float()[0] for t in noisy_images(1, 4, 36))
    expected = module(x.reshape(4, *IMAGE), sigma).detach()
    for _ in range(3):  # the interpreter optimises after the first calls
        torch.testing.assert_close(trunk(x, sigma), expected)
    scripted, plain = head(trunk, 1), head(small_trunk(), 1)
    points = [t.float() for t in noisy_images(1, 4, 36)]
    for _ in range(3):
        actual, expected = (
            net.with_tensors([t.float() for t in net.tensors]).gradient_and_laplacian(*points)
            for net in (scripted, plain)
        )
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_trunk_is_refused(tmp_path: Path) -> None:
    class Detached(nn.Module):
        def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
            del sigma
            return images.detach()

    class Scalar(nn.Module):
        def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
            return images.mean() + sigma.mean()

    with pytest.raises(ValueError, match=r"do not use torch\.no_grad or detach"):
        ModuleTrunk.of(Detached(), IMAGE)
    with pytest.raises(ValueError, match=r"\(N, F, h, w\) or \(N, F\), but .* returned \(\)"):
        ModuleTrunk.of(Scalar(), IMAGE)
    with pytest.raises(ValueError, match="there is no file"):
        load_trunk(str(tmp_path / "absent.pt"), IMAGE, CPU)
    shape = ConvShape(image=(1, 6, 6), width=4, depth=1)
    with pytest.raises(ValueError, match=r"\(1, 6, 6\) for maps of \(6, 3, 3\)"):
        initialise_conv(shape, 0.5, [torch.Generator()], trunk=small_trunk())


def test_vectors_are_maps_of_one_pixel() -> None:
    class Pooled(nn.Module):
        def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
            return images.flatten(1)[:, :8] * sigma[:, None]

    trunk = ModuleTrunk.of(Pooled(), IMAGE)
    assert trunk.shape == (8, 1, 1)
    net = head(trunk, 2)
    x, sigma = noisy_images(2, 3, 36)
    gradient = net.gradient(x, sigma)
    assert (gradient[..., :8] != 0).any(-1).all()
    assert not gradient[..., 8:].any()
    assert torch.isfinite(gradient).all()

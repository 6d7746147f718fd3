"""Ensembles of a user's module: against the built-in perceptron, finite differences, members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.discriminator.discriminator import Ensemble
from dgray.discriminator.fit import Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.module_ensemble import ModuleEnsemble, build_module_ensemble
from dgray.discriminator.objective import Batch, CrossEntropy, Kl, Noised, ObjectiveLoss, Outputs
from tests.discriminator.conv_ensembles import generators, noisy_images
from tests.discriminator.ensembles import random_ensemble

Points = tuple[Tensor, Tensor]


class Perceptron(nn.Module):
    """The built-in perceptron as a user would write it; on images and classes too."""

    def __init__(
        self, shape: tuple[int, ...], sigma_data: float, num_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.sigma_data, self.num_classes = sigma_data, num_classes
        sizes = [torch.Size(shape).numel() + 3 + num_classes, 7, 7, 7]
        self.layers = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))
        self.drop = nn.ModuleList(nn.Dropout(dropout) for _ in self.layers)
        self.out = nn.Linear(7, 1)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        level = sigma.log()[:, None]
        scaled = x.flatten(1) * torch.rsqrt(sigma**2 + self.sigma_data**2)[:, None]
        h = torch.cat([scaled, level / 4, level.sin(), level.cos()], 1)
        if labels is not None:
            classes = torch.arange(self.num_classes)
            h = torch.cat([h, (labels[:, None] == classes).to(h)], 1)
        for layer, drop in zip(self.layers, self.drop, strict=True):
            h = drop(functional.silu(layer(h)))
        return self.out(h)[:, 0]


class Convolutional(nn.Module):
    """A convolution, constants of both kinds, and a dropout of channels."""

    def __init__(self, shape: tuple[int, ...], sigma_data: float, num_classes: int) -> None:
        super().__init__()
        del sigma_data, num_classes
        self.conv = nn.Conv2d(shape[0], 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.drop = nn.Dropout2d(0.5)
        self.out = nn.Linear(8, 1)
        self.register_buffer("own", torch.randn(8))
        self.fixed = nn.Parameter(torch.arange(8.0), requires_grad=False)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = self.norm(self.conv(x / (1 + sigma[:, None, None, None])))
        h = self.drop(torch.tanh(h + (self.own + self.fixed)[:, None, None])).mean((2, 3))
        return self.out(h)[:, 0] * sigma.log()


class Unvectorised(Perceptron):
    """A module that ``vmap`` cannot run, since it reads a number out of a tensor."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        factor = 1 + float(self.out.bias.detach())
        return factor * super().forward(x, sigma, labels)


def double(ensemble: ModuleEnsemble) -> ModuleEnsemble:
    return ensemble._map_tensors(torch.Tensor.double)


CASES: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], int]] = {
    "points": (Perceptron, (2,), 0),
    "classes": (Perceptron, (1, 2, 2), 3),
    "images": (Convolutional, (2, 3, 3), 0),
    "loop": (Unvectorised, (2,), 0),
}


@pytest.fixture(params=CASES)
def ensemble(request: pytest.FixtureRequest) -> ModuleEnsemble:
    factory, shape, num_classes = CASES[request.param]
    ensemble = build_module_ensemble(
        factory, generators(3), shape=shape, sigma_data=0.7, num_classes=num_classes
    )
    assert ensemble.traits.is_vectorised is (request.param != "loop")
    if num_classes:
        labels = torch.randint(-1, num_classes, (3, 5), generator=torch.Generator().manual_seed(1))
        ensemble = ensemble.with_labels(labels)
    return double(ensemble)


@pytest.fixture
def rows(ensemble: ModuleEnsemble) -> Points:
    return noisy_images(3, 5, torch.Size(ensemble.traits.shape).numel())


def test_equal_weights_give_the_numbers_of_the_built_in_perceptron() -> None:
    mlp = random_ensemble(3)
    module = double(build_module_ensemble(Perceptron, generators(3), shape=(2,), sigma_data=0.7))
    names = [f"layers.{i}" for i in range(3)] + ["out"]
    weights = {f"{name}.weight": w.mT for name, w in zip(names, mlp.weights, strict=True)}
    biases = {f"{name}.bias": b[:, 0] for name, b in zip(names, mlp.biases, strict=True)}
    module = module.with_tensors([(weights | biases)[name] for name in module.parameters])
    points = noisy_images(3, 11, 2)
    assert module.num_parameters == module.member(0).num_parameters == mlp.num_parameters
    torch.testing.assert_close(module.logit(*points), mlp.logit(*points))
    torch.testing.assert_close(module.gradient(*points), mlp.gradient(*points))
    torch.testing.assert_close(
        module.gradient_and_laplacian(*points), mlp.gradient_and_laplacian(*points)
    )
    dropped = [net.dropped(0.4, generators(3), 11) for net in (module, mlp)]
    torch.testing.assert_close(dropped[0].gradient(*points), dropped[1].gradient(*points))


def test_a_member_is_its_part_of_the_ensemble(ensemble: ModuleEnsemble, rows: Points) -> None:
    x, sigma = rows
    logit, derivatives = ensemble.logit(x, sigma), ensemble.gradient_and_laplacian(x, sigma)
    for i in range(3):
        member = ensemble.member(i)
        if ensemble.labels is not None:
            member = member.with_labels(ensemble.labels[i])
        torch.testing.assert_close(member.logit(x[i], sigma[i]), logit[i])
        torch.testing.assert_close(member.gradient(x[i], sigma[i]), derivatives[0][i])
        torch.testing.assert_close(
            member.gradient_and_laplacian(x[i], sigma[i]), tuple(t[i] for t in derivatives)
        )
    assert not torch.allclose(logit[0], logit[1])


def test_derivatives_are_those_of_finite_differences(
    ensemble: ModuleEnsemble, rows: Points
) -> None:
    x, sigma = rows
    gradient, laplacian = ensemble.gradient_and_laplacian(x, sigma)
    step, total = 1e-4, torch.zeros_like(sigma)
    with torch.no_grad():
        for i in range(x.shape[-1]):
            along = step * torch.eye(x.shape[-1], dtype=x.dtype)[i]
            up, centre, down = (ensemble.logit(x + s * along, sigma) for s in (1, 0, -1))
            slope = (up - down) / (2 * step)
            torch.testing.assert_close(gradient[..., i], slope, rtol=1e-5, atol=1e-7)
            total += (up - 2 * centre + down) / step**2
    torch.testing.assert_close(laplacian, total, rtol=1e-4, atol=1e-5)


def test_every_parameter_receives_the_gradient_of_the_kl_objective(
    ensemble: ModuleEnsemble, rows: Points
) -> None:
    x, sigma = rows
    batch = Batch(Noised.of(x, x.flip(-1), sigma, ensemble.labels), x.cos, None)

    def loss(tensors: list[Tensor]) -> Tensor:
        return Kl()(Outputs(ensemble.with_tensors(tensors), batch)).mean()

    tensors = [t.clone().requires_grad_() for t in ensemble.tensors]
    gradients = torch.autograd.grad(loss(tensors), tensors, allow_unused=True)
    for name, tensor, gradient in zip(ensemble.parameters, tensors, gradients, strict=True):
        if name == "out.bias":  # a constant in the logit is in no gradient
            continue
        assert gradient is not None, name
        direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)).double()
        up, down = (
            float(loss([t + s * 1e-5 * direction if t is tensor else t for t in tensors]).detach())
            for s in (1, -1)
        )
        assert float((gradient * direction).sum()) == pytest.approx(
            (up - down) / 2e-5, rel=1e-5, abs=1e-8
        ), name


def test_rows_may_be_shared_by_all_members(ensemble: ModuleEnsemble, rows: Points) -> None:
    if ensemble.labels is not None:
        ensemble = ensemble.with_labels(ensemble.labels[:1])
    x, sigma = (t[:1] for t in rows)
    repeated = x.expand(3, -1, -1), sigma.expand(3, -1)
    torch.testing.assert_close(ensemble.logit(x, sigma), ensemble.logit(*repeated))
    torch.testing.assert_close(ensemble.gradient(x, sigma), ensemble.gradient(*repeated))


def test_labels_are_classes(rows: Points) -> None:
    del rows
    ensemble = build_module_ensemble(
        Perceptron, generators(2), shape=(2,), sigma_data=0.7, num_classes=3
    )
    x, sigma = (t.float() for t in noisy_images(2, 4, 2))
    unlabelled = ensemble.with_labels(torch.tensor(-1))
    torch.testing.assert_close(ensemble.logit(x, sigma), unlabelled.logit(x, sigma))
    labelled = ensemble.with_labels(torch.tensor([0, -1, 2, 1])).logit(x, sigma)
    torch.testing.assert_close(labelled[:, 1], ensemble.logit(x, sigma)[:, 1])
    assert (labelled != ensemble.logit(x, sigma))[:, [0, 2, 3]].all()


def test_members_are_drawn_apart_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = build_module_ensemble(Convolutional, generators(3), shape=(2, 3, 3), sigma_data=1)
    alone = build_module_ensemble(Convolutional, generators(3)[2:], shape=(2, 3, 3), sigma_data=1)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(together.member(2).tensors, alone.member(0).tensors, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(together.constants["own"][2], alone.constants["own"][0])
    assert together.constants["fixed"].stride(0) == 0  # equal constants are stored once
    assert not torch.equal(together.tensors[0][0], together.tensors[0][1])


def test_dropout_drops_units_of_rows_and_is_off_elsewhere() -> None:
    ensemble = build_module_ensemble(Convolutional, generators(3), shape=(2, 3, 3), sigma_data=1)
    x, sigma = (t.float() for t in noisy_images(3, 400, 18))
    assert torch.equal(ensemble.logit(x, sigma), ensemble.logit(x, sigma))
    (mask,) = ensemble.dropped(0.25, generators(3), 400).masks
    assert mask.shape == (3, 400, 8, 1, 1)  # whole channels
    assert float(mask.mean()) == pytest.approx(1, abs=0.03)
    dropped = ensemble.dropped(0.25, generators(3), 400)
    assert not torch.allclose(dropped.logit(x, sigma), ensemble.logit(x, sigma))
    with pytest.raises(ValueError, match=r"fit\.dropout must be 0 .* but it is 0\.25"):
        build_module_ensemble(
            lambda *_: Layers(lambda d, x: d), generators(1), shape=(2,), sigma_data=1
        ).dropped(0.25, generators(1), 3)


def train(ensemble: Ensemble, replicates: list[int]) -> list[Tensor]:
    law = GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
    pools = [law.sample(30, named_generator("real", r)) for r in replicates]
    task = Task(
        real=torch.stack(pools),
        generated=torch.stack(pools) * 1.5,
        base=law,
        loss=ObjectiveLoss(CrossEntropy(0.1)),
        draw_sigma=lambda g, n: torch.rand(n, generator=g) + 0.1,
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )
    schedule = TrainingSchedule(
        epochs=3, checkpoints=(3,), batch_size=10, learning_rate=1e-2, dropout=0.2
    )
    state = TrainingState.start(ensemble, replicates=replicates, ema_decay=0.5)
    (checkpoint,) = fit(task, schedule, state)
    return list(checkpoint.ensemble.tensors)


def test_training_replicates_together_is_training_them_apart() -> None:
    def build(replicates: list[int]) -> ModuleEnsemble:
        named = [named_generator("initial", r) for r in replicates]
        return build_module_ensemble(Perceptron, named, shape=(2,), sigma_data=1)

    together = train(build([0, 1]), [0, 1])
    for r in (0, 1):
        for a, b in zip(together, train(build([r]), [r]), strict=True):
            torch.testing.assert_close(a[r], b[0], rtol=1e-3, atol=1e-5)
    assert not torch.equal(together[0], build([0, 1]).tensors[0])


class Layers(nn.Module):
    """A linear logit, changed by a function of (logit, x)."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any], *layers: nn.Module) -> None:
        super().__init__()
        self.change, self.layers = change, nn.Sequential(nn.Linear(2, 4), *layers)

    def forward(self, x: Tensor, sigma: Tensor) -> Any:
        return self.change(self.layers(x).sum(1) * sigma, x)


class Once(torch.autograd.Function):
    """The square, differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient * ctx.saved_tensors[0]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Layers(lambda d, x: d, nn.BatchNorm1d(4)), "'layers.1' is a BatchNorm1d; use torch.nn.G"),
        (Layers(lambda d, x: d[:, None]), r"shape \(N,\), but for two rows it returned \(2, 1\)"),
        (Layers(lambda d, x: d.tolist()), "it returned list"),
        (Layers(lambda d, x: d - d.mean()), "must treat every row alone"),
        (Layers(lambda d, x: d + torch.rand(2)), "treat every row alone and be deterministic"),
        (Layers(lambda d, x: d.detach()), "must be twice differentiable in x"),
        (Layers(lambda d, x: torch.tanh(Once.apply(d))), "must be twice differentiable in x"),
        (nn.Linear(2, 1), r"must accept \(x, sigma\) with x of shape \(2, 2\)"),
        (Layers(lambda d, x: d).requires_grad_(False), "must have parameters that require grad"),
        (torch.ones(1), "must return a torch.nn.Module .* returned Tensor"),
    ],
)
def test_what_cannot_be_a_discriminator_is_refused(module: nn.Module, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=message):
        build_module_ensemble(lambda *_: module, generators(1), shape=(2,), sigma_data=1)


def test_modules_must_have_one_architecture() -> None:
    widths = iter((3, 4))
    with pytest.raises(ValueError, match="modules of one architecture"):
        build_module_ensemble(
            lambda *_: nn.Linear(2, next(widths)), generators(2), shape=(2,), sigma_data=1
        )


def test_constants_follow_the_parameters_to_their_device() -> None:
    ensemble = build_module_ensemble(Convolutional, generators(2), shape=(2, 3, 3), sigma_data=1)
    moved = ensemble.with_tensors([t.to("meta") for t in ensemble.tensors])
    assert {t.device.type for t in moved.constants.values()} == {"meta"}
    assert replace(moved, labels=None).activation_size == 8 * 9

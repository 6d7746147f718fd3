"""Training and sampling stay on their device: no tensor elsewhere, and no wait for its values.

On the device ``meta`` an operation on tensors of two devices fails, and so does every operation
that needs a value on the host: ``item``, ``tolist``, ``bool``, ``nonzero``, a copy to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.preconditioning import EDMPrecond, EncoderFeatures, iDDPMPrecond
from dgray.base.networks.unets.song import SongUNet
from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import (
    BlockWeight,
    ConstantWeight,
    IntervalWeight,
    SplineWeight,
)
from dgray.diffusion.denoiser import ChunkedDenoiser, Denoiser
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import edm_stochastic, heun, reverse_sde, sampler_sigmas
from dgray.diffusion.sigmas import log_uniform
from dgray.discriminator import fit
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import MlpShape, initialise
from dgray.discriminator.objective import CrossEntropy, Kl, Mixed, Objective, ObjectiveLoss
from dgray.discriminator.trunk import ModuleTrunk

META = torch.device("meta")
IMAGE = (1, 8, 8)
REPLICATES, CLASSES = 2, 3


def network(kind: Callable[..., Any] = EDMPrecond) -> NetworkDenoiser:
    channels = 2 if kind is iDDPMPrecond else 1
    raw = SongUNet(8, 1, channels, CLASSES, model_channels=8, channel_mult=(1, 2), num_blocks=1)
    module = kind(raw, label_dim=CLASSES).to(META).eval().requires_grad_(False)
    return NetworkDenoiser(module, IMAGE, CLASSES)


def convolutional(base: NetworkDenoiser | None) -> ConvNet:
    trunk = None if base is None else ModuleTrunk.of(EncoderFeatures(base.module), IMAGE)
    shape = ConvShape(
        image=IMAGE if trunk is None else trunk.shape, width=4, depth=1, num_classes=CLASSES
    )
    generators = [named_generator(0, r) for r in range(REPLICATES)]
    ensemble = initialise_conv(shape, 0.5, generators, trunk=trunk)
    return ensemble.with_tensors([t.to(META) for t in ensemble.tensors])


def task(objective: Objective, base: Denoiser, dimension: int, has_labels: bool) -> fit.Task:
    samples = torch.zeros(REPLICATES, 20, dimension, dtype=torch.uint8, device=META)
    labels = torch.zeros(REPLICATES, 20, dtype=torch.int64, device=META) if has_labels else None
    return fit.Task(
        real=samples,
        generated=samples,
        base=base,
        loss=ObjectiveLoss(objective),
        draw_sigma=lambda generator, n: log_uniform(torch.rand(n, generator=generator), 0.02, 80),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
        real_labels=labels,
        generated_labels=labels,
    )


@pytest.fixture(autouse=True)
def no_kernel_of_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused kernel of Adam has no form on the device ``meta``; it waits for nothing."""
    monkeypatch.setattr("dgray.adam.adamw", lambda *tensors, **options: None)


@pytest.mark.parametrize(
    ("objective", "dropout", "has_trunk"),
    [(CrossEntropy(), 0.5, False), (CrossEntropy(0.1), 0.0, True), (Mixed(1.0), 0.5, True)],
)
def test_an_epoch_on_images_stays_on_its_device(
    objective: Objective, dropout: float, has_trunk: bool
) -> None:
    base = network()
    ensemble = convolutional(base if has_trunk else None)
    state = TrainingState.start(ensemble, replicates=range(REPLICATES), ema_decay=0.9)
    schedule = fit.TrainingSchedule(
        epochs=2, checkpoints=(2,), batch_size=8, learning_rate=1e-3, dropout=dropout
    )
    labelled = task(objective, ChunkedDenoiser(base, 16), 64, has_labels=True)
    losses = fit._run_epoch(labelled, schedule, state, 1, None)
    assert len(losses) == 3
    assert {loss.device for loss in losses} == {META}


@pytest.mark.parametrize("objective", [CrossEntropy(), Kl()])
def test_an_epoch_on_vectors_stays_on_its_device(objective: Objective) -> None:
    shape = MlpShape(dimension=64, width=8, depth=2)
    ensemble = initialise(shape, 0.5, [named_generator(0, r) for r in range(REPLICATES)])
    ensemble = ensemble.with_tensors([t.to(META) for t in ensemble.tensors])
    state = TrainingState.start(ensemble, replicates=range(REPLICATES))
    schedule = fit.TrainingSchedule(epochs=2, checkpoints=(2,), batch_size=8, learning_rate=1e-3)
    losses = fit._run_epoch(task(objective, network(), 64, False), schedule, state, 1, None)
    assert {loss.device for loss in losses} == {META}


def test_a_state_that_is_loaded_has_its_losses_on_the_device() -> None:
    """New losses are added to those before a lost worker, in one tensor."""
    ensemble = initialise(MlpShape(dimension=4, width=8, depth=2), 0.5, [named_generator(0)])
    state = TrainingState.start(ensemble, replicates=[0])
    state.losses, state.seconds = [(1, torch.ones(1)), (2, torch.ones(1))], 3.0
    loaded = TrainingState.start(
        ensemble.with_tensors([t.to(META) for t in ensemble.tensors]), replicates=[0]
    )
    loaded.load_bytes(state.to_bytes())
    assert [(epoch, loss.device) for epoch, loss in loaded.losses] == [(1, META), (2, META)]
    assert loaded.seconds == 3.0


CHURN = {"S_churn": 20.0, "S_min": 0.01, "S_max": 50.0, "S_noise": 1.007}


@pytest.mark.parametrize(
    ("sampler", "options", "kind"),
    [
        (heun, {}, EDMPrecond),
        (edm_stochastic, CHURN, iDDPMPrecond),
        (reverse_sde, {}, EDMPrecond),
    ],
)
def test_guided_sampling_stays_on_its_device(
    sampler: Callable[..., Tensor], options: dict[str, float], kind: Callable[..., Any]
) -> None:
    base = network(kind)
    knots = torch.linspace(math.log(0.02), math.log(80), 5, dtype=torch.float64)
    calibrated = SplineWeight(knots, torch.tensor([0, 0, 1, 1, 1], dtype=torch.float64))
    interval = IntervalWeight(ConstantWeight(1.0), 0.3, 3.0)
    weights = (ConstantWeight(1.0), interval, calibrated)
    labels = torch.zeros(6, dtype=torch.int64, device=META)
    head = convolutional(base).member(0)
    guided = guided_denoiser(ChunkedDenoiser(base, 4), head, BlockWeight(weights), labels)
    sigmas = sampler_sigmas(guided, 6, (0.02, 80.0), 7.0)
    start = torch.zeros(6, 64, dtype=torch.float64, device=META)
    noise = torch.zeros(6, 6, 64, dtype=torch.float64, device=META)
    with torch.no_grad():
        samples = sampler(guided, start, sigmas, noise, **options)
    assert (samples.device, samples.shape) == (META, (6, 64))


def test_a_wait_or_a_wrong_device_would_fail_here() -> None:
    values = torch.zeros(3, device=META)
    for read in (float, bool, Tensor.tolist, Tensor.nonzero, Tensor.cpu):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(values[0])  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="device"):
        values + torch.zeros(3)

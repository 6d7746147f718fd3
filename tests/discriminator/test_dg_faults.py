"""Faults of the published implementation of discriminator guidance, one test each.

Docstrings describe the fault with numbers measured on that implementation. Fault 4 had a second
part, means over the wrong count, which the tests of feature statistics cover.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dgray.cli.sample_output import SampleOutput
from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import ConstantWeight
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.discriminator import Oracle
from dgray.discriminator.fit import Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import Batch, CrossEntropy, Kl, Noised, ObjectiveLoss, Outputs
from dgray.discriminator.trunk import ModuleTrunk

IMAGE = (1, 8, 8)
DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means, DATA.stds * 1.5, DATA.weights)


class Classifier(nn.Module):
    """Features through convolution, normalisation and attention, as classifiers have them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.qkv = nn.Conv2d(16, 48, 1)

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        scale = torch.rsqrt(sigma**2 + 0.25)[:, None, None, None]
        h = self.norm(nn.functional.silu(self.inner(images * scale)))
        q, k, v = (t.flatten(2).mT for t in self.qkv(h).chunk(3, 1))
        attended = nn.functional.softmax(q @ k.mT / 4, -1) @ v
        return h + attended.mT.reshape_as(h)


def classifier_head() -> ConvNet:
    trunk = ModuleTrunk.of(Classifier(), IMAGE)
    shape = ConvShape(image=trunk.shape, width=8, depth=1, attention=True)
    net = initialise_conv(shape, 0.5, [named_generator("head", 0)], trunk=trunk)
    generator = named_generator("not zero")
    return net.with_tensors(
        [t + 0.1 * torch.randn(t.shape, generator=generator) for t in net.tensors]
    )


def noised_images(rows: int) -> tuple[Tensor, Tensor]:
    generator = named_generator("points")
    return torch.randn(1, rows, 64, generator=generator), torch.full((1, rows), 0.7)


def test_fault_1_second_order_guidance_works() -> None:
    """The corrector's weight raised IndexError in DG's code. With the exact discriminator at both
    stages, the guided base draws the same samples as the denoiser of the data.
    """
    guided = guided_denoiser(BASE, Oracle(DATA, BASE), ConstantWeight(1.0))
    x = 80 * torch.randn(20, 2, generator=named_generator("start"), dtype=torch.float64)
    sigmas = karras_sigmas(18, 0.002, 80.0)
    torch.testing.assert_close(heun(guided, x, sigmas), heun(DATA, x, sigmas))


def test_fault_2_a_frozen_classifier_gives_a_gradient() -> None:
    """In DG's code frozen weights raised an error, so unused gradients were computed."""
    net = classifier_head()
    assert isinstance(net.trunk, ModuleTrunk)
    assert not any(p.requires_grad for p in net.trunk.module.parameters())
    x, sigma = noised_images(3)
    assert net.gradient(x, sigma).abs().min() > 0
    assert all(p.grad is None for p in net.trunk.module.parameters())


def test_fault_3_double_backward_reaches_every_parameter() -> None:
    """In DG's published code all 71 gradients of the head were None, without an error."""
    net = classifier_head()
    net = net.with_tensors([t.requires_grad_() for t in net.tensors])
    x, sigma = noised_images(3)
    loss = Kl()(Outputs(net, Batch(Noised.of(x, x.flip(-1), sigma), x.cos, None))).mean()
    loss.backward()
    missing = [n for n, t in net.parameters.items() if t.grad is None or not t.grad.any()]
    assert missing == ["out.bias"]  # a constant in the logit is in no gradient


def test_fault_4_no_output_overwrites_another(tmp_path: Path) -> None:
    """Batches were named by a random number below a million: 501 collided with 11.8 % chance."""
    seeds = range(101)
    output = SampleOutput(tmp_path / "all.npz", seeds, "a model")
    for batch in output.missing(1):
        output.write(batch.start, np.full((2,), batch.start, np.float32))
    assert not list(SampleOutput(tmp_path / "all.npz", seeds, "a model").missing(1))
    with np.load(output.finish()) as file:
        assert file["arr_0"][:, 0].tolist() == list(seeds)


def test_fault_5_labels_stay_with_their_samples() -> None:
    """DG's code paired fewer samples than labels wrongly. Here every pixel encodes the class."""
    labels = torch.arange(40) % 4
    pixels = labels[:, None].repeat(1, 64).float() / 4  # the class, in every pixel
    batches: list[Batch] = []

    def objective(outputs: Outputs) -> Tensor:
        batches.append(outputs.batch)
        return CrossEntropy()(outputs)

    task = Task(
        real=pixels[None, :13],
        real_labels=labels[None, :13],
        generated=pixels.flip(0)[None, :29],
        generated_labels=labels.flip(0)[None, :29],
        base=GaussianMixture(torch.zeros(1, 64), torch.ones(1, 64), torch.ones(1)),
        loss=ObjectiveLoss(objective),
        draw_sigma=lambda g, n: torch.full((n,), 1e-4),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )
    shape = ConvShape(image=IMAGE, width=4, depth=1, num_classes=4)
    state = TrainingState.start(initialise_conv(shape, 0.5, [named_generator(0)]), replicates=[0])
    schedule = TrainingSchedule(
        epochs=2, checkpoints=(2,), batch_size=5, learning_rate=1e-3, dropout=0.0
    )
    list(fit(task, schedule, state))
    assert len(batches) == 6  # 13 real samples in batches of 5, twice
    for batch in batches:
        assert batch.generated is not None
        for noised in (batch.real, batch.generated):
            assert noised.labels is not None
            encoded = (noised.x.mean(-1) * 4).round().long()
            assert torch.equal(encoded, noised.labels)


PROGRAM = """
import sys
from test_dg_faults import digest_of_samples
print(digest_of_samples(), *sorted({"tensorflow", "mpi4py", "blobfile"} & set(sys.modules)))
"""


def digest_of_samples(seeds: range = range(6)) -> str:
    return hashlib.sha256(samples(seeds).numpy().tobytes()).hexdigest()


def samples(seeds: range) -> Tensor:
    """Return samples guided by a network; the noise of each depends only on its seed."""
    base = GaussianMixture(torch.zeros(1, 64), torch.full((1, 64), 0.5), torch.ones(1)).to(
        "cpu", torch.float64
    )
    guided = guided_denoiser(base, classifier_head().member(0), ConstantWeight(1.0))
    start = torch.stack(
        [torch.randn(64, generator=named_generator("start", s)).double() for s in seeds]
    )
    with torch.no_grad():
        return heun(guided, 10 * start, karras_sigmas(4, 0.01, 10.0))


def test_fault_6_same_seeds_in_two_processes_are_the_same_samples() -> None:
    """A global generator made images depend on the batch size, and TensorFlow was imported."""
    threads = torch.get_num_threads()
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-c", PROGRAM]
    output = subprocess.check_output(
        command, cwd=Path(__file__).parent, env=environment, text=True
    ).split()
    assert output == [digest_of_samples()]  # equal samples, and none of the libraries
    together, apart = samples(range(6)), [samples(range(s, s + 2)) for s in (0, 2, 4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_fault_7_guidance_costs_one_backward_pass_and_no_weight_gradients() -> None:
    """A gradient cost 3.1 forward passes (1.44 s and 0.46 s); one backward pass suffices."""
    net = classifier_head().member(0)
    x, sigma = (t[0] for t in noised_images(4))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.gradient(x, sigma)
    flops = counter.get_flop_counts()["Global"]
    forward, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
    assert flops[backward] == flops[forward]


def test_fault_8_a_confident_discriminator_has_a_gradient() -> None:
    """Probabilities were clipped to [1e-5, 1 - 1e-5]: no gradient beyond a logit of 11.5."""
    net = classifier_head().member(0)
    bias = net.parameters["out.bias"]
    confident = replace(net, parameters={**net.parameters, "out.bias": bias + 50})
    x, sigma = (t[0] for t in noised_images(4))
    assert confident.logit(x, sigma).detach().min() > 40
    torch.testing.assert_close(confident.gradient(x, sigma), net.gradient(x, sigma))

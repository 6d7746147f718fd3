import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dgray.base.fit import (
    BaseFit,
    BaseProgress,
    BaseSchedule,
    fit_base,
    load_base,
)
from dgray.base.fit_data import BaseData
from dgray.base.fit_network import BaseArchitecture
from dgray.base.networks.mlp_denoiser import denoising_loss
from dgray.data.images import to_unit
from dgray.diffusion.denoiser import Conditional, Denoiser, with_labels
from dgray.diffusion.sigmas import log_normal

CPU = torch.device("cpu")
POINTS = BaseArchitecture("mlp", (2,), width=32, depth=2, sigma_data=1.0)
SCHEDULE = BaseSchedule(steps=30, batch_size=16, learning_rate=1e-3)
UNET = BaseArchitecture("unet", (1, 8, 8), width=8, depth=1, sigma_data=0.5, dropout=0.2)


def points(count: int = 64) -> BaseData:
    return BaseData(torch.randn(count, 2, generator=torch.Generator().manual_seed(1)))


def images(count: int = 20, *, flip: bool = False) -> BaseData:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return BaseData(pixels, flip=flip)


def begin(
    data: BaseData,
    architecture: BaseArchitecture = POINTS,
    schedule: BaseSchedule = SCHEDULE,
    *,
    seed: int = 0,
    resume: bytes | None = None,
) -> BaseFit:
    return fit_base(data, architecture, schedule, seed=seed, device=CPU, resume=resume)


def watched(fit: BaseFit) -> tuple[list[BaseProgress], bytes]:
    reports = []
    while True:
        try:
            reports.append(next(fit))
        except StopIteration as end:
            return reports, end.value


def run_to_end(fit: BaseFit) -> bytes:
    return watched(fit)[1]


def mean_loss(denoiser: Callable[[Tensor, Tensor], Tensor], clean: Tensor, scale: float) -> float:
    generator = torch.Generator().manual_seed(3)
    sigma = log_normal(torch.randn(len(clean), generator=generator)) * (scale / 0.5)
    noisy = clean + sigma[:, None] * torch.randn(clean.shape, generator=generator)
    return float(denoising_loss(denoiser(noisy, sigma), clean, sigma, scale))


def test_a_gaussian_base_approaches_the_posterior_mean() -> None:
    """Data N(mean, diag std^2): E[x0 | x] = mean + std^2 / (std^2 + sigma^2) (x - mean)."""
    mean, std = torch.tensor([1.0, -0.5]), torch.tensor([1.5, 0.4])
    data = mean + std * torch.randn(4000, 2, generator=torch.Generator().manual_seed(4))
    scale = float((std**2).mean().sqrt())
    schedule = BaseSchedule(
        800, 128, 3e-3, warmup=50, learning_rate_decay="cosine", ema_decay=0.99
    )
    architecture = replace(POINTS, sigma_data=scale)
    denoiser = load_base(run_to_end(begin(BaseData(data), architecture, schedule)), CPU)

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return mean + std**2 / (std**2 + sigma[:, None] ** 2) * (x - mean)

    def skip(x: Tensor, sigma: Tensor) -> Tensor:
        return scale**2 / (scale**2 + sigma[:, None] ** 2) * x

    fresh = mean + std * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(5))
    of_exact, of_skip = mean_loss(exact, fresh, scale), mean_loss(skip, fresh, scale)
    assert of_exact < mean_loss(denoiser, fresh, scale) < of_exact + 0.01 * (of_skip - of_exact)
    for level in (0.1, 0.5, 2.0):
        sigma = torch.full((20_000,), level)
        noisy = fresh + level * torch.randn(
            fresh.shape, generator=torch.Generator().manual_seed(6)
        )
        error = (denoiser(noisy, sigma) - exact(noisy, sigma)).square().mean()
        assert error.sqrt() < 0.04 * scale


def test_the_loss_of_a_unet_falls_below_that_of_the_zero_network() -> None:
    """Two images, bright on the left or on the right: easy to distinguish at most levels."""
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    pixels[0, :, :, :4], pixels[1, :, :, 4:] = 255, 255
    data = BaseData(pixels)
    schedule = BaseSchedule(60, 16, 3e-3, ema_decay=0.9, report_every=10)
    architecture = replace(UNET, dropout=0.0, sigma_data=1.0)
    reports, artifact = watched(begin(data, architecture, schedule))
    assert [r.step for r in reports] == [10, 20, 30, 40, 50, 60]
    assert reports[-1].loss < 0.7 < reports[0].loss
    clean = to_unit(data.samples.flatten(1)).repeat(60, 1)
    assert mean_loss(load_base(artifact, CPU), clean, 1.0) < 0.7 * mean_loss(
        lambda x, sigma: x / (1 + sigma[:, None] ** 2), clean, 1.0
    )


@pytest.mark.parametrize(
    ("data", "architecture"),
    [
        (points(), replace(POINTS, dropout=0.3)),
        (images(flip=True), UNET),
        (
            replace(images(), labels=torch.arange(20) % 3),
            replace(UNET, num_classes=3, attention=True),
        ),
    ],
    ids=["points", "images", "classes"],
)
def test_a_resumed_training_is_the_undisturbed_one(
    data: BaseData, architecture: BaseArchitecture
) -> None:
    schedule = BaseSchedule(
        8, 8, 1e-2, 3, "cosine", ema_decay=0.9, report_every=2, checkpoint_every=3
    )
    reports, artifact = watched(begin(data, architecture, schedule))
    assert [r.step for r in reports] == [2, 3, 4, 6, 8]
    states = {r.step: r.state for r in reports if r.state is not None}
    assert list(states) == [3, 6]
    torch.rand(7)  # the global generator has moved on
    for step, state in states.items():
        later, again = watched(begin(data, architecture, schedule, resume=state))
        assert again == artifact
        assert [(r.step, r.loss) for r in later if r.step == 8] == [(8, reports[-1].loss)]
        assert [r.state for r in later if r.state] == [s for t, s in states.items() if t > step]


def test_a_training_depends_on_its_seed_and_leaves_the_global_generator_alone() -> None:
    data = images(flip=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run_to_end(begin(data, UNET, replace(SCHEDULE, steps=3)))
    load_base(first, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert run_to_end(begin(data, UNET, replace(SCHEDULE, steps=3))) == first
    assert run_to_end(begin(data, UNET, replace(SCHEDULE, steps=3), seed=1)) != first


def two_classes() -> BaseData:
    """Class 0 at (-2, 0), class 1 at (2, 0), both of standard deviation 0.3."""
    noise = 0.3 * torch.randn(400, 2, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(400) % 2
    return BaseData(noise + torch.stack([4.0 * labels - 2, 0.0 * labels], -1), labels)


def test_a_conditional_base_learns_classes_and_their_mixture() -> None:
    architecture = replace(POINTS, sigma_data=1.4, num_classes=2)
    schedule = BaseSchedule(800, 128, 3e-3, 50, "cosine", ema_decay=0.99)
    denoiser = load_base(run_to_end(begin(two_classes(), architecture, schedule)), CPU)
    assert isinstance(denoiser, Conditional)
    x, sigma = torch.zeros(3, 2, dtype=torch.float64), torch.full((3,), 3.0)
    of_class = with_labels(denoiser, torch.tensor([0, 1, -1]))(x, sigma.double())
    # at the origin the two are equally likely: the mixture's mean is 0
    expected = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(of_class, expected, atol=0.25, rtol=0)
    torch.testing.assert_close(denoiser(x, sigma.double())[0], of_class[2])
    _, divergence = with_labels(denoiser, torch.tensor([0, 1, -1])).with_divergence(
        x, sigma.double()
    )
    assert divergence[2] > 2 * divergence[:2].max()  # between two classes it moves most
    with pytest.raises(ValueError, match=r"classes from 0 to 1, or -1 for none, but one is 2"):
        denoiser.with_labels(torch.tensor([0, 2]))


def test_a_conditional_unet_is_a_conditional_denoiser() -> None:
    data = replace(images(), labels=torch.arange(20) % 3)
    schedule = replace(SCHEDULE, steps=20, learning_rate=1e-2)
    denoiser = load_base(run_to_end(begin(data, replace(UNET, num_classes=3), schedule)), CPU)
    x, sigma = torch.zeros(2, 64, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    first, second = with_labels(denoiser, torch.tensor([0, 2]))(x, sigma)
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(
        with_labels(denoiser, torch.tensor([-1, -1]))(x, sigma), denoiser(x, sigma)
    )


def test_flips_show_both_sides_of_an_image() -> None:
    """One image, bright on the left; at a high noise level the best guess is the mean of both."""
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pixels[..., :4] = 255
    architecture = BaseArchitecture("mlp", (1, 8, 8), width=32, depth=1, sigma_data=1.0)
    schedule = BaseSchedule(300, 32, 1e-2, 20, "cosine", ema_decay=0.99)
    x, sigma = torch.zeros(1, 64), torch.full((1,), 5.0)
    for flip, left, right in ((False, 1.0, -1.0), (True, 0.0, 0.0)):
        data = BaseData(pixels.expand(64, -1, -1, -1), flip=flip)
        denoiser = load_base(run_to_end(begin(data, architecture, schedule)), CPU)
        image = denoiser(x, sigma).reshape(8, 8)
        torch.testing.assert_close(image[:, :4].mean(), torch.tensor(left), atol=0.15, rtol=0)
        torch.testing.assert_close(image[:, 4:].mean(), torch.tensor(right), atol=0.15, rtol=0)


def test_batches_are_the_images_exactly() -> None:
    data = images()
    chosen = torch.tensor([3, 3, 7])
    plain = data.clean(chosen, None)
    torch.testing.assert_close(plain, to_unit(data.samples[chosen].flatten(1)), atol=0, rtol=0)
    flipped = data.clean(chosen, torch.tensor([False, True, True])).reshape(3, 1, 8, 8)
    assert torch.equal(flipped[0], plain[0].reshape(1, 8, 8))
    assert torch.equal(flipped[1:], plain[1:].reshape(2, 1, 8, 8).flip(-1))


def test_the_device_is_the_requested_one() -> None:
    """The meta device has no numbers, and refuses to compute with another device's."""
    fit = fit_base(points(), POINTS, SCHEDULE, seed=0, device=torch.device("meta"))
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        run_to_end(fit)  # to the first report, which reads the loss
    artifact = run_to_end(begin(points()))
    denoiser = load_base(artifact, torch.device("meta"))
    x = torch.zeros(3, 2, device="meta")
    assert denoiser(x, torch.ones(3, device="meta")).device.type == "meta"


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_a_denoiser_keeps_dtype_and_leading_dimensions(shape: tuple[int, ...]) -> None:
    is_point = len(shape) == 1
    data, architecture = (points(), POINTS) if is_point else (images(), UNET)
    denoiser: Denoiser = load_base(
        run_to_end(begin(data, architecture, replace(SCHEDULE, steps=2))), CPU
    )
    x = torch.randn(2, 3, architecture.dimension, dtype=torch.float64)
    sigma = torch.rand(2, 3, dtype=torch.float64) + 0.1
    denoised = denoiser(x, sigma)
    assert denoised.dtype == torch.float64
    assert not denoised.requires_grad
    alone = denoiser(x[1, 2], sigma[1, 2])
    torch.testing.assert_close(denoised[1, 2], alone, rtol=1e-5, atol=1e-5)
    again, _ = denoiser.with_divergence(x, sigma)
    torch.testing.assert_close(again, denoised, rtol=1e-5, atol=1e-5)


def refused(
    data: BaseData, architecture: BaseArchitecture, schedule: BaseSchedule = SCHEDULE
) -> str:
    with pytest.raises((ValueError, FloatingPointError)) as raised:
        run_to_end(begin(data, architecture, schedule))
    return str(raised.value)


def test_refusals() -> None:
    assert "shape (1, 8, 8), but the data has (2,)" in refused(points(), UNET)
    assert "without labels; set base.conditional" in refused(
        points(), replace(POINTS, num_classes=3)
    )
    assert "with labels; set base.conditional" in refused(two_classes(), POINTS)
    labelled = replace(two_classes(), labels=two_classes().labels + 1)  # type: ignore[operator]
    assert "from 0 to 1" in refused(labelled, replace(POINTS, num_classes=2))
    far = BaseData(torch.full((4, 2), torch.inf))
    assert "lower base.learning_rate" in refused(far, POINTS)
    with pytest.raises(ValueError, match="square images"):
        BaseArchitecture("unet", (1, 8, 16), 8, 1, 0.5)
    with pytest.raises(ValueError, match=r"base\.network: mlp"):
        BaseArchitecture("unet", (2,), 8, 1, 0.5)
    with pytest.raises(ValueError, match=r"uint8 images .* got torch.int64"):
        BaseData(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="only images can be mirrored"):
        BaseData(torch.zeros(3, 2), flip=True)
    with pytest.raises(ValueError, match=r"labels must be int64 of shape \(3,\)"):
        BaseData(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


def test_another_training_is_not_resumed() -> None:
    schedule = replace(SCHEDULE, steps=4, checkpoint_every=2)
    state = next(begin(points(), POINTS, schedule)).state
    assert state is not None
    for data, architecture, other, seed in (
        (points(63), POINTS, schedule, 0),
        (points(), replace(POINTS, depth=1), schedule, 0),
        (points(), POINTS, replace(schedule, learning_rate=1.0), 0),
        (points(), POINTS, schedule, 1),
    ):
        with pytest.raises(ValueError, match="must be resumed with the data, seed, network"):
            next(begin(data, architecture, other, seed=seed, resume=state))
    often = replace(schedule, checkpoint_every=1, report_every=1)  # not a part of the training
    assert next(begin(points(), POINTS, often, resume=state)).step == 3


def test_an_artifact_has_its_metadata() -> None:
    artifact = run_to_end(begin(points()))
    length = int.from_bytes(artifact[:8], "little")
    header = json.loads(artifact[8 : 8 + length])
    assert BaseArchitecture.from_json(header["__metadata__"]["dgray"]) == POINTS
    with pytest.raises(ValueError, match="remove the file, and the base is trained again"):
        load_base(b"\x02\0\0\0\0\0\0\0{}", CPU)

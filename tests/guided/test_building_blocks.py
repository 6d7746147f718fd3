"""Building blocks without a study: the user's tensors and denoiser, with closed forms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dgray
from dgray.diffusion.mixture import GaussianMixture
from dgray.errors import GuidedModelError, OutputError
from dgray.guided.model import SampleDiscriminator
from dgray.guided.sampling import Sampling
from dgray.guided.user_denoiser import wrap_denoiser

SHIFT = 0.5


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """Denoise N(0, I), in float32."""
    return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


def points(count: int, seed: int) -> Tensor:
    return SHIFT + torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def discriminator() -> SampleDiscriminator:
    return dgray.fit_discriminator(
        points(1000, 0),
        denoise,
        sigmas=(0.01, 50.0),
        discriminator={"width": 16, "depth": 2},
        epochs=40,
        batch_size=250,
        learning_rate=2e-2,
    )


@pytest.fixture(scope="module")
def guided(discriminator: SampleDiscriminator) -> dgray.GuidedDenoiser:
    return dgray.guide(denoise, discriminator)


def test_scores_are_those_of_closed_forms(guided: dgray.GuidedDenoiser) -> None:
    held_out = points(400, 1)
    exact = SHIFT**2  # KL(N(shift, I) || N(0, I)) in 2 dimensions, which guidance removes
    change = guided.path_kl_change(held_out)
    assert abs(change.value + exact) < 4 * change.se + 0.05
    entropy = math.log(2 * math.pi * math.e)
    nll, base = guided.nll(held_out), guided.with_weight(0).nll(held_out)
    assert abs(nll.value - entropy) < 4 * nll.se + 0.05
    assert abs(base.value - entropy - exact) < 4 * base.se
    samples = guided.sample(400)
    distance = dgray.frechet_distance(samples, held_out)
    unguided = dgray.frechet_distance(guided.with_weight(0).sample(400), held_out)
    assert distance.value < 0.1 < 2 * SHIFT**2 - 4 * unguided.se < unguided.value
    assert guided.with_weight(0).path_kl_change(held_out).value == 0


def test_a_sample_depends_on_its_own_seed_alone(guided: dgray.GuidedDenoiser) -> None:
    samples = guided.sample(4, seeds=3)
    for seeds in ([6, 4], np.array([6, 4]), torch.tensor([6, 4])):
        torch.testing.assert_close(guided.sample(2, seeds=seeds), samples[[3, 1]])
    stochastic = guided.sample(2, sampler="sde", num_steps=5)
    assert stochastic.dtype == torch.float32
    assert (stochastic != guided.sample(2, num_steps=5)).any()


def test_any_callable_is_a_denoiser(discriminator: SampleDiscriminator) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert x.dtype == sigma.dtype == torch.float64
            return self.scale * denoise(x, sigma)

    ones = torch.ones(1, 2, dtype=torch.float64)
    law = GaussianMixture(0 * ones, ones, ones[:, 0])
    x, expected = points(5, 2).double(), None
    for denoiser in (Network(), law, denoise):
        value = dgray.guide(denoiser, discriminator)(x, 0.5)
        assert not value.requires_grad
        expected = value if expected is None else expected
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_discriminator_has_the_logit_and_gradient_of_samples(
    discriminator: SampleDiscriminator,
) -> None:
    x = points(3, 3).double()
    logit, gradient = discriminator(x, 0.7), discriminator.gradient(x, 0.7)
    assert (logit.shape, gradient.shape) == ((3,), x.shape)
    step = 1e-4
    for axis in range(2):
        ahead, behind = x.clone(), x.clone()
        ahead[:, axis] += step
        behind[:, axis] -= step
        slope = (discriminator.logit(ahead, 0.7) - discriminator.logit(behind, 0.7)) / (2 * step)
        torch.testing.assert_close(slope, gradient[:, axis], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    "objective", ["cross_entropy", pytest.param("mixed", marks=pytest.mark.long)]
)
def test_images_as_bytes_and_objectives_that_need_generated_samples(objective: str) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(120, 256, (24, 1, 4, 4), generator=generator, dtype=torch.uint8)
    trained = dgray.fit_discriminator(
        real,
        denoise,
        sigmas=(0.02, 20.0),
        objective=objective,
        discriminator={"width": 2},
        epochs=3,
        batch_size=8,
        learning_rate=2e-2,
    )
    model = dgray.guide(denoise, trained, 0.8, interval=(0.05, 10.0))
    samples = model.sample(20, num_steps=6)
    assert samples.shape == (20, 1, 4, 4)
    features = lambda x: x.float().flatten(1)[:, :3]  # noqa: E731
    assert dgray.frechet_distance(samples, real / 127.5 - 1, features).se > 0
    assert model.path_kl_change(real).value < 0
    nll = model.nll(real[:3], num_probes=1, tolerance=0.1)
    assert math.isfinite(nll.value)


def test_a_conditional_discriminator_of_an_unconditional_denoiser(tmp_path: Path) -> None:
    labels = torch.arange(24) % 3
    real = (labels.reshape(-1, 1, 1, 1) / 3).expand(24, 1, 4, 4).clone()
    settings = {"sigmas": (0.05, 5.0), "epochs": 3, "batch_size": 8, "learning_rate": 0.02}
    network = {"width": 2, "conditional": True}
    trained = dgray.fit_discriminator(
        real, denoise, discriminator=network, labels=labels, **settings
    )
    model = dgray.guide(denoise, trained)
    x = torch.zeros(2, 1, 4, 4)
    first, second = (model(x, 1.0, torch.full((2,), label)) for label in (0, 2))
    assert (first != second).any()
    again = dgray.load_exported(model.save(tmp_path / "model"), denoiser=denoise)
    torch.testing.assert_close(again(x, 1.0, torch.tensor([0, 0])), first)
    torch.testing.assert_close(again.sample(3, num_steps=4), model.sample(3, num_steps=4))
    with pytest.raises(GuidedModelError, match="as many generated samples as real ones"):
        dgray.fit_discriminator(
            real, denoise, objective="cross_entropy", labels=labels, generated=real[:5], **settings
        )


def test_functions_of_the_user_as_objective_and_discriminator(tmp_path: Path) -> None:
    def squared(outputs: Any) -> Tensor:
        return (outputs.real_logit - 1) ** 2 + (outputs.generated_logit + 1) ** 2

    class Network(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(size + 1, 8), nn.SiLU(), nn.Linear(8, 1))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.layers(torch.cat([x, sigma.log()[:, None]], 1))[:, 0]

    def build(size: tuple[int, ...], sigma_data: float, num_classes: int) -> nn.Module:
        return Network(size[0])

    trained = dgray.fit_discriminator(
        points(60, 0),
        denoise,
        sigmas=(0.1, 5.0),
        objective=squared,
        discriminator=build,
        generated=torch.randn(60, 2),
        epochs=2,
    )
    folder = dgray.guide(denoise, trained).save(tmp_path / "mine")
    with pytest.raises(GuidedModelError, match="load it with denoiser=your_denoiser"):
        dgray.load_exported(folder)
    with pytest.raises(GuidedModelError, match="load it with discriminator="):
        dgray.load_exported(folder, denoiser=denoise)
    again = dgray.load_exported(folder, denoiser=denoise, discriminator=build)
    x = points(4, 1)
    torch.testing.assert_close(again(x, 1.0), dgray.guide(denoise, trained)(x, 1.0))


def test_a_stored_model_is_the_same_model(guided: dgray.GuidedDenoiser, tmp_path: Path) -> None:
    model = guided.with_weight(0.6, (0.1, 4.0))
    folder = model.save(tmp_path / "model")
    again = dgray.load_exported(folder, denoiser=denoise)
    torch.testing.assert_close(again.sample(4), model.sample(4), rtol=0, atol=0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "discriminator.safetensors",
        "guidance.json",
    ]
    second_folder = again.save(tmp_path / "again")
    second = dgray.load_exported(second_folder, denoiser=denoise)
    torch.testing.assert_close(second.sample(2), model.sample(2), rtol=0, atol=0)
    with pytest.raises(OutputError, match="must be a new or empty folder"):
        model.save(folder)
    weights = folder / "discriminator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(GuidedModelError, match="has changed since it was exported"):
        dgray.load_exported(folder, denoiser=denoise)
    record = json.loads((second_folder / "guidance.json").read_text())
    for field, message in (("discriminator", "neither a discriminator"), ("sha256", "is damaged")):
        (second_folder / "guidance.json").write_text(json.dumps({**record, field: None}))
        with pytest.raises(GuidedModelError, match=message):
            dgray.load_exported(second_folder, denoiser=denoise)
    record["discriminator"]["arguments"]["width"] = 10**6
    (second_folder / "guidance.json").write_text(json.dumps(record))
    with pytest.raises(GuidedModelError, match="must have more than the"):
        dgray.load_exported(second_folder, denoiser=denoise)
    (folder / "guidance.json").write_text("{}")
    with pytest.raises(GuidedModelError, match="is damaged"):
        dgray.load_exported(folder, denoiser=denoise)
    with pytest.raises(GuidedModelError, match="holds no exported model"):
        dgray.load_exported(tmp_path)


def test_another_weight_keeps_the_interval_and_the_scale_of_the_model(
    discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser, tmp_path: Path
) -> None:
    inside, outside = (points(3, 1), 1.0), (points(3, 1), 8.0)
    limited = dgray.guide(denoise, discriminator, 0.3, np.array([0.1, 4.0], np.float32))
    again = limited.with_weight(0.6)
    everywhere = limited.with_weight(0.6, None)
    assert torch.equal(again(*inside), guided.with_weight(0.6)(*inside))
    assert torch.equal(again(*outside), guided.with_weight(0)(*outside))
    assert torch.equal(everywhere(*outside), guided.with_weight(0.6)(*outside))
    predictor = replace(again, sampling=Sampling(guided_stage="predictor")).with_weight(1.2)
    for index, model in enumerate((again, everywhere, predictor)):
        stored = dgray.load_exported(model.save(tmp_path / str(index)), denoiser=denoise)
        assert stored.weight == model.weight
    assert predictor.weight == again.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "^epochs: must be > 0, but got 0$"),
        ({"epoch": 3}, r"^epoch: unknown field; did you mean 'epochs'\?$"),
        ({"colour": 3}, "^colour: unknown field; the fields here are objective, gamma, epochs"),
        ({"objective": "kll"}, r"^objective: must be one of .* got 'kll'; did you mean 'kl'\?$"),
        ({"objective": "oracle"}, "one that is trained"),
        ({"objective": {"name": "oracle"}}, "one that is trained"),
        ({"objective": None}, "objective must be one name, mapping or function, but got None"),
        ({"objective": 5}, "objective must be one name, .* but got 5"),
        ({"objective": ["kl"]}, r"objective must be one name, .* but got \['kl'\]"),
        ({"discriminator": {"widht": 3}}, "^discriminator.widht: unknown field; .* 'width'"),
        ({"discriminator": "mlp"}, "discriminator must be a mapping .* but got 'mlp'"),
        ({"discriminator": {"depth": 1.5}}, "^discriminator.depth: must be an integer, but got"),
        ({"sigmas": (2.0, 1.0)}, "0 < low < high"),
        ({"sigmas": (2.0,)}, "two numbers"),
        ({"sigmas": (1, math.inf)}, "sigmas must be finite"),
        ({"discriminator": {"conditional": True}}, "labels is None; give labels"),
        ({"labels": torch.zeros(10)}, r"integers of shape \(10,\) .* got torch.float32"),
        ({"seed": -1}, "seed must be an integer >= 0, but got -1"),
        ({"seed": 1.5}, "seed must be an integer >= 0, but got 1.5"),
        ({"real": 255 * torch.rand(9, 1, 2, 2)}, "divide by 127.5 and subtract 1"),
        ({"real": torch.arange(36).reshape(9, 1, 2, 2)}, "but the largest value is 35;"),
        ({"epochs": {3}, "batch_size": 1j}, "batch_size: .* type complex; epochs: .* type set"),
        ({"discriminator": {"width": {3}}}, "width: must be .* type set"),
        ({"patience": 3}, "need a study"),
        ({"real": torch.full((10, 2), math.nan)}, "real samples must be finite"),
        ({"real": torch.ones(10, 2)}, "sigma_data must be > 0"),
        ({"real": torch.ones(10)}, "at least 2 real samples"),
        ({"sigma_data": 0}, "sigma_data must be > 0"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "labels must be classes"),
        ({"labels": torch.full((10,), -1)}, "labels must be classes"),
        ({"discriminator": {"kind": "conv"}}, "'conv' is not for points"),
        ({"objective": "cross_entropy", "generated": points(0, 1)}, "at least 2 generated"),
    ],
)
def test_wrong_values_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    values = {"real": points(10, 0), "epochs": 1, **change}
    with pytest.raises(GuidedModelError, match=message) as raised:
        dgray.fit_discriminator(denoiser=denoise, **values)
    assert "\n" not in str(raised.value)


def test_the_frechet_distance_is_that_of_scaled_samples_of_one_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 1, 2, 2), generator=generator, dtype=torch.uint8)
    one, other = pixels[:20], pixels[20:]
    expected = dgray.frechet_distance(one / 127.5 - 1, other / 127.5 - 1)
    assert dgray.frechet_distance(one, other) == expected
    assert dgray.frechet_distance(one, other / 127.5 - 1) == expected
    assert dgray.frechet_distance(one, other, lambda x: x.flatten(1).numpy()) == expected
    with pytest.raises(GuidedModelError, match=r"same shape, .* \(1, 2, 2\) and .* \(4,\)"):
        dgray.frechet_distance(one, other.flatten(1))


def test_images_are_bytes_or_scaled() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 1, 2, 2), generator=generator, dtype=torch.uint8)
    trained = dgray.fit_discriminator(pixels, denoise, discriminator={"width": 2}, epochs=1)
    model = dgray.guide(denoise, trained)
    scaled = pixels / 127.5 - 1
    torch.testing.assert_close(model.epsilon(pixels, 0.7), model.epsilon(scaled, 0.7))
    assert model(pixels.float(), 60.0).isfinite().all()  # noised samples have any values
    for call in (model.path_kl_change, model.nll):
        for unscaled in (pixels.float(), pixels.int()):
            with pytest.raises(GuidedModelError, match=r"images must be bytes .* value is 25"):
                call(unscaled)
    with pytest.raises(GuidedModelError, match="images must be bytes or numbers in"):
        dgray.frechet_distance(pixels.float(), pixels)
    features = lambda x: x.flatten(1)  # noqa: E731
    assert dgray.frechet_distance(pixels.float(), pixels, features).value > 0


def test_classes_are_those_of_the_conditional_model() -> None:
    labels = torch.arange(20) % 2
    fit = partial(dgray.fit_discriminator, points(20, 0), epochs=1, learning_rate=0.1)
    trained = fit(denoise, discriminator={"width": 4, "conditional": True}, labels=labels)
    model, x = dgray.guide(denoise, trained), points(3, 1)
    ones = torch.ones(3, dtype=torch.int32)
    for call in (model, model.epsilon, trained.logit, trained.gradient):
        assert torch.equal(call(x, 1.0, 1), call(x, 1.0, ones))
        with pytest.raises(GuidedModelError, match="from 0 to 1, or -1 for none, but one is 2;"):
            call(x, 1.0, [0, 1, 2])
    assert torch.equal(model.sample(3, labels=1), model.sample(3, labels=ones))
    assert model.path_kl_change(x, 1) == model.path_kl_change(x, ones)
    for score in (model.path_kl_change, model.nll):
        with pytest.raises(GuidedModelError, match="labels must be classes from 0 to 1"):
            score(x, 2)
    conditional = wrap_denoiser(lambda x, sigma, labels: denoise(x, sigma), (2,), num_classes=2)
    with pytest.raises(GuidedModelError, match="classes from 0 to 1, but one is 4"):
        fit(conditional, labels=labels * 4)


def test_noise_levels_can_be_a_list(
    discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser
) -> None:
    x, sigma = points(2, 1), torch.tensor([0.5, 2.0], dtype=torch.float64)
    for call in (guided, guided.epsilon, discriminator.logit):
        assert torch.equal(call(x, [0.5, 2.0]), call(x, sigma))
        assert torch.equal(call(x, (0.5, 2.0)), call(x, sigma))
    for call in (discriminator.logit, discriminator.gradient):
        with pytest.raises(GuidedModelError, match="sigma must be finite and > 0, but is 0"):
            call(x, 0.0)


def test_a_seed_is_the_same_number_in_any_library(guided: dgray.GuidedDenoiser) -> None:
    x = points(4, 1)

    def results(seed: Any) -> tuple[Any, ...]:
        trained = dgray.fit_discriminator(points(20, 0), denoise, epochs=1, seed=seed)
        change = guided.path_kl_change(x, seed=seed)
        nll = guided.nll(x, seed=seed, num_probes=1)
        return trained.logit(x, 1.0).tolist(), change, nll

    assert results(np.int64(3)) == results(torch.tensor(3)) == results(3) != results(4)


def test_folders_can_be_in_the_home(
    guided: dgray.GuidedDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert guided.save("~/model") == tmp_path / "model"
    again = dgray.load_exported("~/model", denoiser=denoise)
    assert torch.equal(again(points(2, 1), 1.0), guided(points(2, 1), 1.0))


def test_an_objective_has_the_syntax_of_a_study() -> None:
    fit = partial(dgray.fit_discriminator, points(20, 0), denoise, epochs=2, learning_rate=0.1)
    x = points(4, 1)
    named = fit(objective="mixed").logit(x, 1.0)
    assert torch.equal(fit(objective={"name": "mixed"}).logit(x, 1.0), named)
    assert (fit(objective="cross_entropy").logit(x, 1.0) != named).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.with_weight(math.nan), "finite number"),
        (lambda g: g.with_weight(1, (2, 1)), "0 <= low < high"),
        (lambda g: g.with_weight(1, "all"), "interval must be two numbers"),
        (lambda g: g.sample(2, num_steps=0), "num_steps must be at least 1"),
        (lambda g: g.nll(points(0, 0)), "at least one sample"),
        (lambda g: g.nll(points(2, 0), tolerance=0), "tolerance must be"),
        (lambda g: g.nll(points(2, 0), seed="a"), "seed must be an integer >= 0, but got 'a'"),
        (lambda g: g.path_kl_change(points(2, 0), seed=-2), "seed must be an integer >= 0"),
        (lambda g: g.epsilon(points(2, 0), 0), "sigma must be finite and > 0, but is 0"),
        (lambda g: g(points(2, 0), -1), "sigma must be finite and >= 0, but is -1"),
        (lambda g: g(points(2, 0), math.nan), "sigma must be finite and >= 0, but is nan"),
        (lambda g: g(points(2, 0), [1, math.inf]), "sigma must be finite and >= 0, but is inf"),
        (lambda g: g(points(2, 0), 1, torch.zeros(2)), "labels must be classes, integers"),
        (lambda g: g(points(2, 0), 1, [0, 1, 2]), r"integers of shape \(2,\)"),
        (lambda g: g.epsilon(points(2, 0), 1, "ab"), "labels must be classes"),
        (lambda g: g.sample(2, labels=-2), "or -1 for none, but one is -2"),
        (lambda g: g.path_kl_change(points(2, 0), [0.5, 1]), "labels must be classes"),
        (lambda g: g.nll(points(2, 0), [1]), "labels must be classes"),
        (lambda g: g.path_kl_change(points(0, 0)), "at least one sample"),
        (lambda g: g.path_kl_change(points(2, 0), num_levels=0), "num_levels must be"),
        (lambda g: g.path_kl_change(points(2, 0) * math.nan), "must be finite"),
    ],
)
def test_wrong_arguments_of_a_guided_model_are_refused(
    guided: dgray.GuidedDenoiser, call: Callable[[dgray.GuidedDenoiser], object], message: str
) -> None:
    with pytest.raises(GuidedModelError, match=message):
        call(guided)


def test_values_of_numpy_are_those_of_torch(guided: dgray.GuidedDenoiser) -> None:
    real, labels = points(30, 0), torch.arange(30) % 2
    of_torch = dgray.fit_discriminator(
        real,
        denoise,
        sigmas=(0.5, 50.0),
        discriminator={"width": 4, "conditional": True},
        labels=labels,
        sigma_data=1.0,
        epochs=2,
        learning_rate=0.25,
    )
    of_numpy = dgray.fit_discriminator(
        real.numpy(),
        denoise,
        sigmas=np.array([0.5, 50.0], np.float32),
        discriminator={"width": np.int64(4), "conditional": np.bool_(True)},
        labels=labels.numpy(),
        sigma_data=np.float32(1.0),
        epochs=np.int64(2),
        learning_rate=np.float64(0.25),
    )
    sigma = torch.linspace(1, 2, 30)
    x = real.numpy(), sigma.numpy(), labels.numpy()
    assert torch.equal(of_numpy.logit(*x), of_torch.logit(real, sigma, labels))
    assert torch.equal(of_numpy.gradient(*x), of_torch.gradient(real, sigma, labels))
    one, other = dgray.guide(denoise, of_numpy, np.float64(1.0)), dgray.guide(denoise, of_torch)
    assert torch.equal(one(*x), other(real, sigma, labels))
    assert torch.equal(one.epsilon(*x), other.epsilon(real, sigma, labels))
    assert torch.equal(one.sample(3, labels=x[2][:3]), other.sample(3, labels=labels[:3]))
    assert one.path_kl_change(x[0], x[2]) == other.path_kl_change(real, labels)
    assert one.nll(x[0][:4], x[2][:4]) == other.nll(real[:4], labels[:4])
    distance = dgray.frechet_distance(real[:15], real[15:])
    assert dgray.frechet_distance(x[0][:15], x[0][15:]) == distance
    assert torch.equal(guided(x[0].astype(int), 1.0), guided(real.int(), 1.0))  # as float32
    assert guided(real.int(), 1.0).dtype == torch.float32


def test_no_samples_are_denoised_to_none(guided: dgray.GuidedDenoiser) -> None:
    assert guided(points(0, 0), 1.0).shape == (0, 2)


def partly(denoised: Tensor, x: Tensor) -> Tensor:
    """Return the values of a denoiser with the derivative of the skip connection x / 2."""
    return x / 2 + (denoised - x / 2).detach()


@pytest.mark.parametrize(
    "denoiser",
    [
        torch.no_grad()(denoise),
        torch.inference_mode()(denoise),
        lambda x, sigma: partly(denoise(x, sigma), x),
        dgray.from_epsilon(torch.no_grad()(lambda x, s: x * (s / (1 + s**2))[:, None])),
        lambda x, sigma: denoise(x, sigma) + 0.1 * torch.randn_like(x),
    ],
)
def test_a_likelihood_of_a_denoiser_without_its_derivative_is_refused(
    denoiser: Any, discriminator: SampleDiscriminator
) -> None:
    model = dgray.guide(denoiser, discriminator)
    assert model.sample(2, num_steps=4).isfinite().all()
    with pytest.raises(
        GuidedModelError, match=r"without torch\.no_grad, inference_mode or detach"
    ):
        model.nll(points(4, 0))


def memorised(x: Tensor, sigma: Tensor) -> Tensor:
    """Denoise the distribution of four points, whose derivative has narrow peaks."""
    corners = 100 * torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    distance = (x[:, None] - corners).square().sum(-1)
    return torch.softmax(-distance / (2 * sigma[:, None] ** 2), -1) @ corners


@pytest.mark.parametrize(
    "denoiser",
    [
        lambda x, sigma: torch.zeros_like(x),
        lambda x, sigma: x.relu() / (1 + sigma[:, None]),
        memorised,
        dgray.wrap_denoiser(denoise, (2,), dtype=torch.bfloat16),
    ],
)
def test_derivatives_of_unusual_denoisers_are_accepted(denoiser: Any) -> None:
    real, sigmas = (points(10, 0), (0.5, 2.0))
    if denoiser is memorised:
        real, sigmas = 100 * real, (30.0, 300.0)
    fitted = dgray.fit_discriminator(real, denoiser, sigmas=sigmas, epochs=1)
    nll = dgray.guide(denoiser, fitted, 0.0).nll(real[:4], tolerance=1.0)
    assert math.isfinite(nll.value)


def test_a_logit_that_is_linear_in_x_has_no_laplacian() -> None:
    class Linear(nn.Module):
        def __init__(self, size: Any, sigma_data: float, num_classes: int) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            logit: Tensor = self.layer(x)[:, 0]
            return logit

    linear = dgray.fit_discriminator(
        points(50, 0), denoise, sigmas=(0.01, 50.0), discriminator=Linear, epochs=1
    )
    x = points(20, 0)
    slope = linear.gradient(x[:1].double(), 1.0)
    flow = dgray.guide(denoise, linear, 1.0)
    # dx/dsigma = sigma x / (1 + sigma^2) - sigma slope: linear, with the divergence of the base
    assert torch.equal(linear.gradient(x.double(), 3.0), slope.expand(20, 2))
    grid = torch.linspace(math.log(0.01), math.log(50.0), 40_001, dtype=torch.float64).exp()
    shift = torch.trapezoid(grid / (1 + grid**2).sqrt(), grid) * slope
    scale = (1 + 50.0**2) ** 0.5
    end = scale * (x.double() / (1 + 0.01**2) ** 0.5 - shift)
    log_prob = torch.distributions.Normal(0, 50.0).log_prob(end).sum(1) + 2 * math.log(
        scale / (1 + 0.01**2) ** 0.5
    )
    assert flow.nll(x, tolerance=1e-6).value == pytest.approx(-float(log_prob.mean()), rel=1e-4)


def test_the_samples_of_a_caller_are_not_changed() -> None:
    def in_place(x: Tensor, sigma: Tensor) -> Tensor:
        return x.div_(1 + sigma.pow_(2)[:, None])

    x, sigma = points(3, 0).double(), torch.full((3,), 2.0, dtype=torch.float64)
    wrapped = dgray.wrap_denoiser(in_place, (2,), dtype=torch.float64)
    torch.testing.assert_close(wrapped(x, sigma), denoise(x, sigma))
    assert torch.equal(x, points(3, 0).double())
    assert torch.equal(sigma, torch.full((3,), 2.0, dtype=torch.float64))


def test_a_module_with_active_dropout_is_refused_and_without_it_is_not() -> None:
    class Denoiser(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return denoise(self.layer(x), sigma)

    module = Denoiser(nn.Dropout(0.5))
    with pytest.raises(GuidedModelError, match=r"layer layer \(Dropout\) .* call eval\(\)"):
        dgray.wrap_denoiser(module, (2,))
    dgray.wrap_denoiser(module.eval(), (2,))
    dgray.wrap_denoiser(Denoiser(nn.Identity()), (2,))

"""Arguments of users: what is refused, and what is the same in NumPy, torch and Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dgray
from dgray.errors import GuidedModelError
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.user_denoiser import wrap_denoiser
from tests.guided.normal import denoise, points


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


@pytest.mark.parametrize("interval", [(0, math.inf), (1.0, math.inf), (0.5, 3.0), None])
def test_an_interval_without_an_end_is_stored(
    interval: Any, guided: dgray.GuidedDenoiser, tmp_path: Path
) -> None:
    model, x = guided.with_weight(0.7, interval), points(9, 1)
    again = dgray.load_exported(model.save(tmp_path / "model"), denoiser=denoise)
    sigma = torch.logspace(-1.5, 1.5, 9)
    assert torch.equal(again(x, sigma), model(x, sigma))
    assert torch.equal(again.sample(3), model.sample(3))


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


@pytest.mark.parametrize(
    "form",
    [
        lambda x: pd.DataFrame(x, columns=["a", "b"]),
        lambda x: x[::-1].copy()[::-1],  # negative strides
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: x.astype(object),
        lambda x: x.astype(np.longdouble),
        lambda x: np.asfortranarray(x),
        lambda x: np.broadcast_to(x, x.shape),  # not writeable
        lambda x: np.ma.array(x),
        lambda x: x.tolist(),
    ],
)
def test_samples_can_be_any_array_of_numbers(
    form: Callable[[Any], Any], discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser
) -> None:
    x, labels = points(20, 3), np.arange(20) % 2
    own, sigma = form(x.numpy()), pd.Series(np.linspace(1, 2, 20))
    classes = pd.Series(labels, dtype=object)
    levels = torch.linspace(1, 2, 20, dtype=torch.float64)
    for call in (guided, guided.epsilon, discriminator.logit, discriminator.gradient):
        torch.testing.assert_close(call(own, sigma), call(x, levels), check_dtype=False)
    assert guided.path_kl_change(own) == guided.path_kl_change(x)
    assert guided.nll(own) == guided.nll(x)
    assert dgray.frechet_distance(own, x + 1) == dgray.frechet_distance(x, x + 1)
    assert dgray.frechet_distance(x, own).value == pytest.approx(0, abs=1e-9)
    fit = partial(dgray.fit_discriminator, epochs=2, discriminator={"conditional": True})
    of_form = fit(own, denoise, labels=classes, generated=own, objective="cross_entropy")
    of_tensor = fit(x, denoise, labels=labels, generated=x, objective="cross_entropy")
    assert torch.equal(of_form.logit(x, levels, classes), of_tensor.logit(x, levels, labels))


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        (None, "a NoneType"),
        ("ab", "a str"),
        ({"a": 1}, "a dict"),
        (np.array([["a", "b"]]), "a ndarray"),
        (np.array([["a", 1]], object), "a ndarray"),
        (np.array([["1", "2"]], object), "a ndarray"),
        (np.array([[None, 1]], object), "a ndarray"),
        (pd.DataFrame({"a": ["x"], "b": [1]}), "a DataFrame"),
        ([[1.0], [1.0, 2.0]], "a list"),
        (torch.ones(2, 2, dtype=torch.complex64), r"a Tensor of torch\.complex64"),
        (np.ones((2, 2), bool), r"a ndarray of torch\.bool"),
        (torch.eye(2).to_sparse(), r"a Tensor of torch\.float32, torch\.sparse_coo"),
    ],
)
def test_samples_are_real_numbers(
    samples: Any, kind: str, discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser
) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda x: guided(x, 1.0),
        lambda x: guided.epsilon(x, 1.0),
        lambda x: discriminator.logit(x, 1.0),
        lambda x: discriminator.gradient(x, 1.0),
        guided.path_kl_change,
        guided.nll,
        lambda x: dgray.frechet_distance(x, points(4, 0)),
        lambda x: dgray.frechet_distance(points(4, 0), x),
        lambda x: dgray.fit_discriminator(x, denoise, epochs=1),
        lambda x: dgray.fit_discriminator(
            points(4, 0), denoise, epochs=1, objective="cross_entropy", generated=x
        ),
    ]
    if samples is None:
        del calls[-1]  # they are drawn
    for call in calls:
        with pytest.raises(GuidedModelError, match=rf"samples must be real numbers .* got {kind}"):
            call(samples)


@pytest.mark.parametrize("value", ["1", None, [1], (), {}, 1j, np.ones(2), object()])
def test_numbers_and_functions_are_checked(
    value: Any, discriminator: SampleDiscriminator, guided: dgray.GuidedDenoiser
) -> None:
    x = points(4, 0)
    fit = partial(dgray.fit_discriminator, epochs=1)
    calls: list[tuple[Callable[[Any], object], str]] = [
        (lambda v: guided.sample(v), "n must be an integer"),
        (lambda v: guided.sample(1.0), "n must be an integer, but got 1.0"),
        (lambda v: guided.sample(2, seeds=v), "seeds must be one number"),
        (lambda v: guided.with_weight(v), "a guidance weight must be a number, but got"),
        (lambda v: dgray.guide(denoise, discriminator, v), "a guidance weight must be a number"),
        (lambda v: dgray.guide(v, discriminator), "a denoiser must be a function"),
        (lambda v: dgray.guide(denoise, v), "discriminator must be that of fit_discriminator"),
        (lambda v: fit(x, v), "a denoiser must be a function"),
        (lambda v: guided.path_kl_change(x, num_levels=v), "num_levels must be an integer"),
        (lambda v: guided.nll(x, tolerance=v), "tolerance must be a number"),
    ]
    if value is not None:  # None is the default of the others
        calls += [
            (lambda v: guided.sample(2, num_steps=v), "num_steps must be an integer, but got"),
            (
                lambda v: guided.sample(2, sampler=v),
                "there is no sampler '1'"
                if isinstance(value, str)
                else "sampler must be a name or a func",
            ),
            (lambda v: guided.nll(x, num_probes=v), "num_probes must be an integer, but got"),
            (lambda v: fit(x, denoise, sigma_data=v), "sigma_data must be a number, but got"),
            (lambda v: dgray.frechet_distance(x, x, v), "features must be a function of samples"),
        ]
    for call, message in calls:
        with pytest.raises(GuidedModelError, match=message):
            call(value)


def test_values_out_of_range_are_refused(guided: dgray.GuidedDenoiser) -> None:
    x = points(4, 0)
    for count in (0, -1):
        with pytest.raises(GuidedModelError, match=f"num_probes must be at least 1, .* {count}"):
            guided.nll(x, num_probes=count)
    with pytest.raises(GuidedModelError, match="needs at least 2 samples on each side"):
        dgray.frechet_distance(x, x[:0])
    for wrong in (math.nan, math.inf):
        with pytest.raises(GuidedModelError, match="samples must be finite"):
            dgray.frechet_distance(x, x * wrong)
        with pytest.raises(GuidedModelError, match="features must be finite"):
            dgray.frechet_distance(x, x, lambda x, by=wrong: x * by)
    assert dgray.frechet_distance(x, x, lambda x: x > 0).value == pytest.approx(0, abs=1e-9)
    for sigma in (1j, np.array([1 + 5j] * 4), np.ones(4, bool), torch.ones(4).to_sparse()):
        with pytest.raises(GuidedModelError, match="sigma must be real numbers"):
            guided(x, sigma)
    for weight in (10**400, np.complex64(1), bytearray(b"1")):
        with pytest.raises(GuidedModelError, match="a guidance weight must be a number"):
            guided.with_weight(weight)
    with pytest.raises(GuidedModelError, match="labels must be classes"):
        guided(x, 1.0, torch.ones(4, dtype=torch.int64).to_sparse())
    images = np.full((4, 1, 2, 2), 9, np.uint16)
    with pytest.raises(GuidedModelError, match="images must be bytes or numbers in"):
        dgray.fit_discriminator(images, denoise, epochs=1)


@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_a_denoiser_that_is_not_finite_is_named(sigma: float) -> None:
    def broken(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        is_near = (level.log() - math.log(sigma)).abs() < 2.0
        return torch.where(is_near[:, None], math.nan, denoise(x, level))

    fit = partial(dgray.fit_discriminator, points(4, 0), broken, sigmas=(0.5, 20.0), epochs=1)
    # Cross-entropy of given samples needs no denoiser, so that its values have no effect.
    assert (
        fit(objective="cross_entropy", generated=points(4, 1)).logit(points(1, 0), 1.0).isfinite()
    )
    with pytest.raises(GuidedModelError, match=f"finite numbers, .* at sigma = {sigma:g}"):
        fit()

"""The trained CNN, EfficientNet-Lite0 and users' own extractors."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dgray.data.published import digits
from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.features import efficientnet
from dgray.metrics.features.cnn import fit_cnn, load_cnn
from dgray.metrics.features.custom import load_custom
from dgray.metrics.features.efficientnet import EfficientNetFeatures, load_efficientnet
from dgray.metrics.features.extractor import FeatureExtractor, extract
from dgray.metrics.frechet import frechet_distance

DIGITS = digits()
GREY = (1, 8, 8)


@pytest.fixture(scope="module")
def cnn_bytes() -> bytes:
    return fit_cnn(DIGITS.pixels, DIGITS.labels, 10, seed=0, epochs=5)


@pytest.fixture(scope="module")
def lite0() -> EfficientNetFeatures:
    return load_efficientnet()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def frechet(extractor: FeatureExtractor, one: Tensor, two: Tensor) -> float:
    first, second = (
        FeatureStatistics.of(extract(extractor, pixels).numpy(), extractor.source)
        for pixels in (one, two)
    )
    return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def noisy(pixels: Tensor, amount: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = 255 * amount * torch.randn(pixels.shape, generator=generator)
    return (pixels + noise).round().clamp(0, 255).to(torch.uint8)


def test_the_cnn_classifies_images_it_was_not_trained_on(cnn_bytes: bytes) -> None:
    extractor = load_cnn(cnn_bytes)
    assert extractor.held_out_accuracy > 0.95
    assert extractor.source.name == "fd_cnn"
    assert extractor.source.sha256 == hashlib.sha256(cnn_bytes).hexdigest()
    assert extract(extractor, DIGITS.pixels[:3]).shape == (3, 64)


def test_the_accuracy_is_of_images_the_network_has_not_seen() -> None:
    labels = torch.randint(2, (200,), generator=torch.Generator().manual_seed(1))
    learnt = load_cnn(fit_cnn(DIGITS.pixels[:200], labels, 2, seed=0, epochs=60))
    assert learnt.held_out_accuracy < 0.8  # labels are coins; seen images would give 1
    with torch.no_grad():
        x = DIGITS.pixels[:200].float() / 127.5 - 1
        assert (learnt.network(x).argmax(1) == labels).double().mean() > 0.85


def test_the_cnn_is_a_function_of_its_seed() -> None:
    pixels, labels = DIGITS.pixels[:100], DIGITS.labels[:100]
    torch.manual_seed(1)
    one = fit_cnn(pixels, labels, 10, seed=3, epochs=2)
    torch.manual_seed(2)
    assert fit_cnn(pixels, labels, 10, seed=3, epochs=2) == one
    assert fit_cnn(pixels, labels, 10, seed=4, epochs=2) != one


@pytest.mark.parametrize(("which", "count"), [("cnn", 300), ("lite0", 100)])
def test_worse_images_are_further_from_the_data(
    which: str, count: int, cnn_bytes: bytes, lite0: EfficientNetFeatures
) -> None:
    extractor = load_cnn(cnn_bytes) if which == "cnn" else lite0
    data, others = DIGITS.pixels[:count], DIGITS.pixels[count : 2 * count]
    distances = [frechet(extractor, data, noisy(others, s)) for s in (0, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances)
    assert distances[-1] > 3 * distances[0]


def test_the_cnn_sees_lost_classes(cnn_bytes: bytes) -> None:
    data, others = DIGITS.pixels[:300], DIGITS.pixels[300:600]
    few = others[DIGITS.labels[300:600] < 5]
    complete = frechet(load_cnn(cnn_bytes), data, others[: len(few)])
    assert frechet(load_cnn(cnn_bytes), data, few) > 3 * complete


@pytest.mark.parametrize("which", ["cnn", "lite0", "custom"])
def test_features_do_not_depend_on_the_batch(
    which: str, cnn_bytes: bytes, lite0: EfficientNetFeatures
) -> None:
    extractor = {
        "cnn": lambda: load_cnn(cnn_bytes),
        "lite0": lambda: lite0,
        "custom": lambda: load_custom("extractors_for_tests:means", GREY),
    }[which]()
    pixels = DIGITS.pixels[:20]
    by_batch_size = [extract(extractor, pixels, batch_size) for batch_size in (1, 7, 20)]
    for other in by_batch_size[1:]:
        torch.testing.assert_close(
            other, by_batch_size[0], rtol=1e-5, atol=1e-5 * float(by_batch_size[0].max())
        )


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("which", ["cnn", "lite0", "custom"])
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), "1 channel .* or 3 .* these have 4"),
        (torch.zeros(2, 1, 8, 8), "must be uint8 of shape"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "none of them 0"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), "must be uint8 of shape"),
    ],
)
def test_what_is_no_image_is_refused(
    which: str, pixels: Tensor, message: str, cnn_bytes: bytes, lite0: EfficientNetFeatures
) -> None:
    extractor = {
        "cnn": lambda: load_cnn(cnn_bytes),
        "lite0": lambda: lite0,
        "custom": lambda: load_custom("extractors_for_tests:means", GREY),
    }[which]()
    for call in (lambda: extractor(pixels), lambda: extract(extractor, pixels)):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_cnn_refuses_other_channels_labels_and_bytes(cnn_bytes: bytes) -> None:
    with pytest.raises(ValueError, match=r"of 1 channel\(s\), but these have 3"):
        load_cnn(cnn_bytes)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="from 0 to 4"):
        fit_cnn(DIGITS.pixels, DIGITS.labels, 5, seed=0)
    with pytest.raises(ValueError, match="at least 20 images"):
        fit_cnn(DIGITS.pixels[:19], DIGITS.labels[:19], 10, seed=0)
    with pytest.raises(ValueError, match="not a network that fit_cnn made"):
        load_cnn(b"something else")


def test_efficientnets_weights_are_those_that_were_checked(lite0: EfficientNetFeatures) -> None:
    assert lite0.source.name == "fd_efficientnet_lite0"
    assert lite0.source.sha256.startswith("579344248a93")
    assert lite0.source.resize == "bilinear to 64x64, antialiased"
    assert extract(lite0, DIGITS.pixels[:2]).shape == (2, 1280)
    with pytest.raises(ValueError, match="size must be >= 32"):
        load_efficientnet(size=16)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match=r"dgray\[features\]"):
        efficientnet.load_efficientnet()


def test_a_users_function_is_called_as_it_is() -> None:
    extractor = load_custom("extractors_for_tests:means", GREY)
    file = Path(__file__).parent / "extractors_for_tests.py"
    assert extractor.source.name == "fd_means"
    assert extractor.source.dimension == 2
    assert extractor.source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    features = extract(extractor, DIGITS.pixels[:5])
    assert features.dtype == torch.float32
    expected = DIGITS.pixels[:5].double().flatten(1).mean(1) / 255
    torch.testing.assert_close(features[:, 0].double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("means", ValueError, "must be given as module:function, but got 'means'"),
        (":means", ValueError, "module:function"),
        ("a:b c", ValueError, "module:function"),
        ("no_such_module:f", ModuleNotFoundError, "PYTHONPATH"),
        ("extractors_for_tests:mean", ValueError, "function 'mean'.* but has none"),
        ("extractors_for_tests:NUMBER", ValueError, "but has int"),
        ("extractors_for_tests:integers", ValueError, r"floats, but returned torch\.uint8"),
        ("extractors_for_tests:an_array", ValueError, "floats, but returned ndarray"),
        ("extractors_for_tests:one_vector", ValueError, r"shape \(N, F\).* shape \(128,\)"),
        ("extractors_for_tests:maps", ValueError, r"shape \(2, 1, 8, 8\)"),
        ("extractors_for_tests:infinite", ValueError, "finite features, but 2 of 2"),
        ("extractors_for_tests:normalised_over_the_batch", ValueError, "eval mode"),
    ],
)
def test_an_invalid_function_of_a_user_is_refused_at_once(
    reference: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_custom(reference, GREY)


def test_features_that_turn_infinite_later_are_refused_then() -> None:
    extractor = load_custom("extractors_for_tests:nan_when_dark", GREY)
    dark = torch.zeros(3, *GREY, dtype=torch.uint8)
    with pytest.raises(ValueError, match="fd_nan_when_dark must give finite features, but 3 of 3"):
        extract(extractor, dark)

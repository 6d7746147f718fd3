"""Bytes to [-1, 1] and back, the order of the flat vector, and what an image set refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgray.data.images import ImageSet, flatten, mirrored, to_uint8, to_unit, unflatten

ALL_BYTES = torch.arange(256, dtype=torch.uint8)


def images(count: int = 6, channels: int = 3, *, labelled: bool = True) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, 4, 5), generator=generator, dtype=torch.uint8)
    if not labelled:
        return ImageSet("random", pixels)
    return ImageSet("random", pixels, torch.arange(count) % 3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_byte_comes_back(dtype: torch.dtype) -> None:
    x = to_unit(ALL_BYTES, dtype)
    assert x.dtype == dtype
    assert x.min() == -1
    assert x.max() == 1
    assert torch.equal(to_uint8(x), ALL_BYTES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_are_edms_rule_and_the_nearest(dtype: torch.dtype) -> None:
    """EDM's generator clips 127.5 x + 128 and cuts off what follows the point."""
    x = torch.cat([to_unit(ALL_BYTES, dtype), torch.linspace(-1.3, 1.3, 9973, dtype=dtype)])
    edm = (x * 127.5 + 128).clip(0, 255).to(torch.uint8)
    assert torch.equal(to_uint8(x), edm)
    nearest = (127.5 * (x.double() + 1)).clamp(0, 255)
    assert (to_uint8(x).double() - nearest).abs().max() <= 0.5 + 1e-5


def test_out_of_range_is_clipped_and_zero_rounds_up() -> None:
    assert to_uint8(torch.tensor([-7.0, 0.0, 7.0])).tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_no_byte_stands_for_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        to_uint8(torch.tensor([0.0, value]))


def test_numbers_are_not_taken_for_bytes() -> None:
    with pytest.raises(ValueError, match=r"uint8, but got torch.float32"):
        to_unit(torch.zeros(2))


def test_vectors_run_over_width_then_height_then_channel() -> None:
    images_ = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    x = flatten(images_)
    assert x.shape == (2, 60)
    assert x[1, (2 * 4 + 3) * 5 + 1] == images_[1, 2, 3, 1]
    assert torch.equal(unflatten(x, (3, 4, 5)), images_)
    assert unflatten(x.reshape(1, 2, 60), (3, 4, 5)).shape == (1, 2, 3, 4, 5)


def test_a_wrong_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"C H W = 60 .* but got 59"):
        unflatten(torch.zeros(2, 59), (3, 4, 5))


def test_vectors_of_a_set_give_its_bytes() -> None:
    original = images()
    x = original.vectors()
    assert x.shape == (6, 60)
    assert torch.equal(to_uint8(unflatten(x, original.shape)), original.pixels)


def test_a_mirrored_set_holds_every_image_and_its_mirror_image() -> None:
    original = images()
    twice = mirrored(original)
    assert len(twice) == 12
    assert torch.equal(twice.pixels[:6], original.pixels)
    assert torch.equal(twice.pixels[6:, :, :, 0], original.pixels[:, :, :, -1])
    assert torch.equal(twice.pixels[6:].flip(-1), original.pixels)
    assert twice.labels is not None
    assert twice.labels.tolist() == [0, 1, 2, 0, 1, 2] * 2


def test_a_subset_keeps_what_belongs_to_an_image() -> None:
    original = images().subset(torch.tensor([5, 1]))
    assert torch.equal(original.pixels, images().pixels[[5, 1]])
    assert original.labels is not None
    assert original.labels.tolist() == [2, 1]
    assert original.num_classes == 3


def test_the_hash_is_of_the_content() -> None:
    original = images()
    assert original.sha256 == images().sha256
    assert original.sha256 == ImageSet("other", original.pixels.clone(), original.labels, 3).sha256
    pixels = original.pixels.clone()
    pixels[3, 2, 1, 0] ^= 1
    others = [
        ImageSet("pixel", pixels, original.labels, 3),
        ImageSet("classes", original.pixels, original.labels, 4),
        ImageSet("none", original.pixels),
        ImageSet("labels", original.pixels, torch.zeros(6, dtype=torch.int64), 3),
        ImageSet("shape", original.pixels.reshape(6, 3, 5, 4), original.labels, 3),
        ImageSet("test", original.pixels, original.labels, 3, torch.arange(6) > 3),
        original.subset(torch.tensor([1, 0, 2, 3, 4, 5])),
    ]
    assert len({original.sha256, *(other.sha256 for other in others)}) == 8


@pytest.mark.parametrize(
    ("pixels", "labels", "num_classes", "message"),
    [
        (torch.zeros(2, 3, 4, 4), None, 0, "must be uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), None, 0, r"shape \(N, C, H, W\)"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), None, 0, "none of them 0"),
        (images().pixels, torch.zeros(5, dtype=torch.int64), 3, r"shape \(6,\), one per image"),
        (images().pixels, torch.zeros(6), 3, "labels must be torch.int64"),
        (images().pixels, torch.arange(6), 5, "from 0 to 4, but they go from 0 to 5"),
        (images().pixels, torch.arange(6) - 1, 6, "they go from -1 to 4"),
        (images().pixels, None, 3, "must be 0 without labels"),
        (images().pixels, torch.arange(6), 0, "positive with them"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    pixels: Tensor, labels: Tensor | None, num_classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet("wrong", pixels, labels, num_classes)

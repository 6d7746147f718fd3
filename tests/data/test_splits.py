"""Splits: disjoint by content, nested by size, blind to file order; and what they refuse."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from dgray.data.images import ImageSet
from dgray.data.splits import split

SIZES = {"training-0": 60, "training-1": 60, "validation": 30, "held_out": 40, "base": 80}


def random_images(count: int = 200, *, duplicates: int = 0, width: int = 4) -> ImageSet:
    """Random images; the last ``duplicates`` repeat the first."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 1, 3, width), generator=generator, dtype=torch.uint8)
    pixels[count - duplicates :] = pixels[:duplicates]
    return ImageSet("random", pixels, torch.arange(count) % 7, 7)


def contents(images: ImageSet, indices: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images.pixels[indices]]


def test_sizes_are_met_and_no_index_repeats() -> None:
    splits = split(random_images(), SIZES, seed=0)
    assert list(splits) == list(SIZES)
    for name, indices in splits.items():
        assert indices.dtype == torch.int64
        assert len(indices) == SIZES[name] == len(set(indices.tolist()))


@pytest.mark.parametrize("duplicates", [0, 1, 50, 100])
@pytest.mark.parametrize("seed", range(5))
def test_no_content_is_on_both_sides_of_a_boundary(duplicates: int, seed: int) -> None:
    images = random_images(duplicates=duplicates)
    sizes = {"held_out": 41, "validation": 33, "training-0": 50, "base": 50}
    contents_of = {
        name: set(contents(images, i)) for name, i in split(images, sizes, seed).items()
    }
    for one, other in combinations(contents_of, 2):
        if {one, other} != {"training-0", "base"}:  # both are of the pool
            assert not contents_of[one] & contents_of[other], (one, other)


def test_splits_do_not_depend_on_file_order() -> None:
    images = random_images(duplicates=20)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    other = images.subset(shuffled)
    ours, theirs = split(images, SIZES, 3), split(other, SIZES, 3)
    for name in SIZES:
        assert contents(images, ours[name]) == contents(other, theirs[name])
        assert images.labels is not None
        assert other.labels is not None
        assert images.labels[ours[name]].tolist() == other.labels[theirs[name]].tolist()


@pytest.mark.parametrize("name", list(SIZES))
def test_a_larger_split_contains_the_smaller(name: str) -> None:
    images = random_images(duplicates=20)
    small = split(images, {**SIZES, name: 10}, 0)[name]
    assert split(images, SIZES, 0)[name][:10].tolist() == small.tolist()


def test_held_out_and_validation_do_not_depend_on_other_sizes() -> None:
    images = random_images()
    alone = {name: split(images, {name: SIZES[name]}, 0)[name].tolist() for name in SIZES}
    together = split(images, SIZES, 0)
    for name in ("held_out", "validation"):
        assert together[name].tolist() == alone[name]


def test_replicates_draw_their_own_from_one_pool() -> None:
    images = random_images()
    sizes = {"held_out": 50, "validation": 50, "training-0": 100, "training-1": 100}
    splits = split(images, sizes, 0)
    assert splits["training-0"].tolist() != splits["training-1"].tolist()
    assert set(splits["training-0"].tolist()) == set(splits["training-1"].tolist())  # all of it
    halves = split(images, {**sizes, "training-0": 50, "training-1": 50}, 0)
    shared = set(halves["training-0"].tolist()) & set(halves["training-1"].tolist())
    assert 10 < len(shared) < 40  # 25 are expected of independent draws, standard deviation 2.5


def test_a_seed_is_another_draw_and_the_same_seed_the_same() -> None:
    images = random_images()
    one, again, other = (split(images, SIZES, seed) for seed in (0, 0, 1))
    for name in SIZES:
        assert one[name].tolist() == again[name].tolist()
        assert one[name].tolist() != other[name].tolist()


def test_every_image_is_as_likely_held_out() -> None:
    """Over 400 seeds: a binomial count each, mean 80, standard deviation 8."""
    images = random_images(100)
    counts = torch.zeros(100)
    for seed in range(400):
        counts[split(images, {"held_out": 20}, seed)["held_out"]] += 1
    assert counts.sum() == 400 * 20
    assert counts.min() > 80 - 5 * 8
    assert counts.max() < 80 + 5 * 8


def test_a_mirror_image_counts_as_the_image_when_training_is_mirrored() -> None:
    originals = random_images(100)
    images = ImageSet("both", torch.cat([originals.pixels, originals.pixels.flip(-1)]))
    sizes = {"held_out": 60, "training-0": 80}

    def leaks(flip: bool) -> set[bytes]:
        indices = split(images, sizes, 0, flip=flip)
        training = images.subset(indices["training-0"])
        mirrored = ImageSet("mirrored", training.pixels.flip(-1))
        trained = set(contents(training, torch.arange(80)) + contents(mirrored, torch.arange(80)))
        return trained & set(contents(images, indices["held_out"]))

    assert leaks(flip=False)
    assert not leaks(flip=True)


def test_a_test_part_serves_validation_and_held_out_alone() -> None:
    originals = random_images(duplicates=10)
    is_test = torch.arange(200) >= 120  # its last 10 are also training images
    images = ImageSet("parts", originals.pixels, originals.labels, 7, is_test)
    sizes = {"held_out": 40, "validation": 30, "training-0": 120}
    indices = split(images, sizes, 0)
    assert is_test[indices["held_out"]].all()
    assert is_test[indices["validation"]].all()
    assert sorted(indices["training-0"].tolist()) == list(range(120))
    first = set(contents(images, torch.arange(10)))
    assert not first & set(
        contents(images, torch.cat([indices["held_out"], indices["validation"]]))
    )


def test_too_few_images_are_refused() -> None:
    images = random_images(duplicates=100)  # 100 images, twice each
    with pytest.raises(ValueError, match=r"'training-0' must have from 0 to 120 .* size is 121"):
        split(images, {"held_out": 40, "validation": 40, "training-0": 121}, 0)
    with pytest.raises(ValueError, match=r"'held_out' must have from 0 to 200 .* size is 201"):
        split(images, {"held_out": 201}, 0)
    with pytest.raises(ValueError, match=r"'validation' .* of the 200 images of random"):
        split(images, {"held_out": 150, "validation": 51}, 0)
    with pytest.raises(ValueError, match=r"'base' .* its size is -1"):
        split(images, {"base": -1}, 0)

"""Images are read as their owners see them, and what was skipped or changed is told."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dgray.data.image_files import read_folder, read_zip
from dgray.data.images import ImageSet
from dgray.data.npz import read_npz
from dgray.data.published_surveys import survey_cifar10, survey_digits
from dgray.data.summary import DataSummary
from dgray.data.surveys import survey_folder, survey_npz, survey_zip
from dgray.errors import DataError, MissingFileError

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
Read = Callable[..., ImageSet]


def encoded(image: Any, form: str = "png", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, form, **options)
    return stream.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture(params=["folder", "zip"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    """Writes files, reads them, and checks that the survey from headers says the same."""

    def from_files(files: dict[str, bytes], **options: Any) -> ImageSet:
        if request.param == "folder":
            root = write(tmp_path / "set", files)
            images, survey = read_folder(root, **options), survey_folder(root, **options)
        else:
            path = tmp_path / "set.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            images, survey = read_zip(path, **options), survey_zip(path, **options)
        summary = images.summary
        assert (survey.num_images, survey.shape) == (summary.num_images, summary.shape)
        assert survey.classes == summary.classes
        assert set(survey.remarks) <= set(summary.remarks)
        assert DataSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
        return images

    return from_files


def remark(images: ImageSet, words: str) -> str:
    (match,) = [text for text in images.remarks if words in text]
    return match


PNG = encoded(RGB)


def test_hidden_and_system_files_are_no_images(read: Read) -> None:
    hidden = ("cat/.ipynb_checkpoints/a-checkpoint.png", ".ipynb_checkpoints/b.png", "._c.png")
    system = ("__MACOSX/cat/._a.png", "cat/@eaDir/a.png", "$RECYCLE.BIN/x.png")
    files = dict.fromkeys((*hidden, *system, "cat/a.png", "dog/b.JPG"), PNG)
    images = read(files | {"Thumbs.db": b"", "cat/notes.txt": b"", "dog/.DS_Store": b""})
    assert images.summary.classes == {"cat": 1, "dog": 1}
    assert "skipped 7 entries, hidden or of the system: $RECYCLE.BIN/, ._c.png" in "; ".join(
        images.remarks
    )
    assert "skipped 2 entries, not PNG, JPEG or WebP: Thumbs.db, cat/notes.txt" in (images.remarks)


def test_a_set_of_hidden_images_only_is_refused_with_the_reason(read: Read) -> None:
    with pytest.raises(
        MissingFileError, match=r"holds none .skipped 1 entry, hidden or of the system"
    ):
        read({".cache/a.png": PNG})


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_cameras(read: Read, orientation: int) -> None:
    """The camera stores a turned image and the orientation that turns it back."""
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    files = {
        "a.png": encoded(np.ascontiguousarray(turn(upright)), exif=exif),
        "b.webp": encoded(np.ascontiguousarray(turn(upright)), "webp", exif=exif, lossless=True),
    }
    images = read(files)
    expected = upright.transpose(2, 0, 1)
    assert np.array_equal(images.pixels[0].numpy(), expected)
    assert np.array_equal(images.pixels[1].numpy(), expected)
    assert len(images.remarks) == (orientation > 1)
    if orientation > 1:
        assert remark(images, "EXIF").startswith("2 images turned upright")


def test_orientation_of_a_jpeg(read: Read) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = np.zeros((8, 16, 3), dtype=np.uint8)
    image[:, :8] = 255  # left half white: the top half once it is upright
    images = read({"a.JPEG": encoded(image, "jpeg", exif=exif)})
    assert images.shape == (3, 16, 8)
    assert images.pixels[0, :, :6].min() > 200
    assert images.pixels[0, :, 10:].max() < 50


def test_damaged_exif_data_is_ignored(read: Read) -> None:
    images = read({"a.jpg": encoded(RGB, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\x01")})
    assert images.shape == (3, 6, 6)


def test_one_colour_image_among_grey_ones(read: Read) -> None:
    images = read({"a.png": encoded(GREY), "b.png": PNG, "c.png": encoded(GREY)})
    assert images.shape == (3, 6, 6)
    assert np.array_equal(images.pixels[0].numpy(), np.stack([GREY] * 3))
    assert np.array_equal(images.pixels[1].numpy(), RGB.transpose(2, 0, 1))
    assert remark(images, "grey") == (
        "2 grey images converted to 3 channels, because 1 image has colours (b.png)"
    )


@pytest.mark.parametrize("grey", [True, False])
def test_transparent_pixels_are_blended_over_white(read: Read, grey: bool) -> None:
    colours = np.dstack([GREY] * 3) if grey else RGB
    alpha = np.full((6, 6), 255, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 128
    layers = [Image.fromarray(GREY)] if grey else list(Image.fromarray(RGB).split())
    image = Image.merge("LA" if grey else "RGBA", [*layers, Image.fromarray(alpha)])
    opaque = Image.merge(
        "LA" if grey else "RGBA", [*layers, Image.fromarray(np.full_like(alpha, 255))]
    )
    images = read({"a.png": encoded(image), "b.png": encoded(opaque)})
    pixels = images.pixels[0].numpy().transpose(1, 2, 0).astype(int)
    colours = colours[..., : images.shape[0]].astype(int)
    assert (pixels[0] == 255).all()
    assert np.abs(pixels[1] - (colours[1] + 255) / 2).max() <= 1
    assert np.array_equal(pixels[2:], colours[2:])
    assert np.array_equal(images.pixels[1].numpy().transpose(1, 2, 0), colours)
    assert remark(images, "transparent").startswith("1 image with transparent pixels")


def test_a_transparent_entry_of_a_palette(read: Read) -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    images = read({"a.png": encoded(image, transparency=0)})
    assert images.pixels[0, :, 0, 0].tolist() == [255, 255, 255]
    assert images.pixels[0, :, 1, 1].tolist() == [0, 255, 0]


def test_sixteen_bits_keep_their_brightness(read: Read) -> None:
    deep = (np.arange(36, dtype=np.uint16) * 1820).reshape(6, 6)
    images = read({"a.png": encoded(deep)})
    assert np.array_equal(images.pixels[0, 0].numpy(), (deep >> 8).astype(np.uint8))
    assert "reduced from 16 to 8 bits" in remark(images, "bits")


def test_inks_and_animations_are_told(read: Read) -> None:
    frames = [Image.fromarray(np.full((6, 6, 3), v, dtype=np.uint8)) for v in (10, 200)]
    moving = encoded(frames[0], "webp", save_all=True, append_images=frames[1:], lossless=True)
    inks = encoded(Image.new("CMYK", (6, 6), (255, 0, 0, 0)), "jpeg")
    images = read({"a.webp": moving, "b.jpg": inks})
    assert (images.pixels[0] == 10).all()
    assert images.pixels[1, :, 3, 3].tolist() == [0, 255, 255]
    assert remark(images, "first frame").startswith("1 image animated")
    assert remark(images, "CMYK").startswith("1 image converted")


def test_colours_of_another_profile_are_converted_to_srgb(read: Read) -> None:
    """A profile whose red and blue primaries are exchanged shows red as blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace(b"rXYZ", b"xXYZ").replace(b"bXYZ", b"rXYZ").replace(b"xXYZ", b"bXYZ")
    name = "sRGB built-in".encode("utf-16-be")
    other = other.replace(name, "exchanged RGB".encode("utf-16-be")).replace(b"sRGB", b"xxxx")
    red = np.zeros((6, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    files = {
        "a.png": encoded(red, icc_profile=other),
        "b.png": encoded(red, icc_profile=srgb),
        "c.png": encoded(red, icc_profile=b"damaged"),
    }
    images = read(files)
    assert images.pixels[0, :, 0, 0].tolist() == [0, 0, 255]
    assert images.pixels[1, :, 0, 0].tolist() == [255, 0, 0]
    assert images.pixels[2, :, 0, 0].tolist() == [255, 0, 0]
    assert remark(images, "profile").startswith("1 image converted from their colour profile")


def test_a_gamma_that_is_not_applied_is_told(read: Read) -> None:
    red = np.full((6, 6, 3), 100, dtype=np.uint8)

    def chunk(name: bytes, *numbers: int) -> PngInfo:
        info = PngInfo()
        info.add(name, struct.pack(f">{len(numbers)}I", *numbers))
        return info

    srgb = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    files = {
        "a.png": encoded(red, pnginfo=chunk(b"gAMA", 100000)),
        "b.png": encoded(red, pnginfo=chunk(b"gAMA", 45455)),
        "c.png": encoded(red, pnginfo=chunk(b"cHRM", *srgb)),
        "d.png": encoded(red, pnginfo=chunk(b"cHRM", *srgb[:2], 73000, *srgb[3:])),
    }
    images = read(files)
    assert (images.pixels == 100).all()
    assert remark(images, "gAMA").startswith("2 images with a gamma or primaries")


def test_all_damaged_files_are_named_at_once(read: Read) -> None:
    bad = {f"{i}.png": b"<html>" for i in range(5)}
    match = r"0\.png .*1\.png .*2\.png .*\.\.\. .5 of 6 images.; repair or remove"
    with pytest.raises(DataError, match=match):
        read({**bad, "good.png": PNG})


def test_other_formats_behind_the_name_of_an_image_are_refused(read: Read) -> None:
    for form in ("gif", "tiff", "eps"):
        with pytest.raises(DataError, match="neither PNG nor JPEG nor WebP"):
            read({"a.png": encoded(RGB, form)})


def test_sizes_are_counted_and_the_advice_works(read: Read) -> None:
    small = encoded(RGB[:4, :4].copy())
    files = {"a.png": PNG, "b.png": small, "c.png": small}
    with pytest.raises(DataError, match=r"2 of 4 x 4, 1 of 6 x 6 pixels; set data.resize: 4"):
        read(files)
    images = read(files, resize=4)
    assert images.shape == (3, 4, 4)
    assert remark(images, "resized") == "1 image resized to 4 x 4"


def labelled(root: str, *labels: int) -> dict[str, bytes]:
    names = [f"0000{i % 2}/img{i}.png" for i in range(len(labels))]
    pairs = [list(pair) for pair in zip(names, labels, strict=True)]
    files = {root + name: encoded(RGB + np.uint8(i)) for i, name in enumerate(names)}
    return files | {f"{root}dataset.json": json.dumps({"labels": pairs}).encode()}


@pytest.mark.parametrize("root", ["", "faces/", "a/b/"])
def test_edms_labels_are_found_in_deeper_folders(read: Read, root: str) -> None:
    images = read(labelled(root, 2, 0, 1, 1))
    assert images.summary.classes == {"0": 1, "1": 2, "2": 1}
    assert images.remarks == ()


def test_edms_labels_above_their_images(read: Read) -> None:
    files = labelled("", 1, 0)
    moved = {f"img/{name}": content for name, content in files.items() if name.endswith(".png")}
    images = read(moved | {"dataset.json": files["dataset.json"]})
    assert images.summary.classes == {"0": 1, "1": 1}


def index_of(*entries: tuple[str, object]) -> dict[str, bytes]:
    return {"a.png": PNG, "b.png": PNG, "dataset.json": json.dumps({"labels": entries}).encode()}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("a.png", 0), ("b.png", 1), ("a.png", 1)], r"a\.png has 0 and 1; remove one"),
        ([("a.png", 0), ("b.png", 10**9)], r"largest is 1,000,000,000; number them 0, "),
        ([("a.png", 0), ("b.png", 10**30)], "must be whole numbers"),
        ([("a.png", True), ("b.png", False)], "must be whole numbers"),
        ([("a.png", 0), ("b.png", None)], "must be whole numbers"),
        ([("a.png", 0), ("b.png", "cat")], "must be whole numbers"),
        ([("c.png", 0), ("d.png", 1)], "2 of 2 have none"),
    ],
)
def test_absurd_labels_are_refused(read: Read, entries: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(index_of(*entries))


def test_remarkable_labels_are_told(read: Read) -> None:
    images = read(index_of(("a.png", 0), (".\\b.png", 4), ("./a.png", 0), ("gone.png", 1)))
    assert images.summary.classes == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 1}
    text = "; ".join(images.remarks)
    assert "3 of the 5 classes have no image" in text
    assert "1 labels of dataset.json are of no image: gone.png" in text
    assert "1 images occur more than once" in text


def test_a_common_directory_is_the_root_of_the_classes(read: Read) -> None:
    images = read({"train/cat/a.png": PNG, "train/dog/b/c.png": PNG})
    assert images.summary.classes == {"cat": 1, "dog": 1}


def test_splits_are_no_classes(read: Read) -> None:
    files = {"train/cat/a.png": PNG, "Val/cat/b.png": PNG}
    with pytest.raises(DataError, match=r"Val, train seem to be splits; give the path of one"):
        read(files)
    assert read(files, labels="none").summary.classes is None
    assert read(files, labels="directories").summary.classes == {"Val": 1, "train": 1}


def test_numbered_parts_are_no_classes(read: Read) -> None:
    images = read({"00000/a.png": PNG, "01000/b.png": PNG})
    assert images.summary.classes is None
    assert "numbered parts" in images.remarks[0]


def test_numeric_directories_are_in_numerical_order(read: Read) -> None:
    images = read({f"{i}/a.png": PNG for i in range(12)})
    assert list(images.summary.classes or ()) == [str(i) for i in range(12)]


def test_why_there_are_no_classes(read: Read) -> None:
    images = read({"cat/a.png": PNG, "dog/b.png": PNG, "cover.png": PNG})
    assert images.remarks == (
        "no classes: 1 of 3 images are in no directory, the first cover.png",
    )


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"a.png": PNG})
    root = write(tmp_path / "set", {"dog/b.png": PNG})
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "loop").symlink_to(root)
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nothing")
    (root / "dog" / "self").symlink_to(root / "dog" / "self")
    os.mkfifo(root / "pipe.png")
    images = read_folder(root)
    assert images.summary.classes == {"cat": 1, "dog": 1}
    text = "; ".join(images.remarks)
    assert "1 entry, read already under another name: dog/loop/" in text
    assert "links without a target or special files: dog/gone.png, dog/self, pipe.png" in text


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"cat/a.png": PNG, "dog/b.png": PNG})
    os.rename(root / "cat", os.fsencode(root) + b"/c\xff\x1bt")
    names = list(read_folder(root).summary.classes or ())
    assert names == ["c\\udcff\\x1bt", "dog"]


def test_windows_zips(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("cat\\a.png", "dog\\b.png"):
            archive.writestr(name, PNG)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat\\a.png", PNG)
    assert read_zip(tmp_path / "set.zip").summary.classes == {"cat": 1, "dog": 1}


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", PNG)
    content = bytearray((tmp_path / "set.zip").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png cannot be read: .*encrypted"):
        read_zip(tmp_path / "set.zip")


def test_a_wrong_kind_of_file_names_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"")
    with pytest.raises(MissingFileError, match=r"use data\.kind zip"):
        read_folder(tmp_path / "set.zip")
    with pytest.raises(MissingFileError, match=r"use data\.kind folder"):
        read_zip(tmp_path)


def test_surveys_of_npz_and_published_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", arr_0=images, arr_1=np.array([[0], [2], [2], [0], [2]]))
    assert survey_npz(tmp_path / "set.npz") == read_npz(tmp_path / "set.npz").summary
    np.savez(tmp_path / "first.npz", arr_0=images.transpose(0, 3, 1, 2))
    with pytest.raises(DataError, match=r"transpose\(0, 2, 3, 1\)"):
        survey_npz(tmp_path / "first.npz")
    from dgray.data.published import digits

    assert survey_digits() == digits().summary
    monkeypatch.setenv("DGRAY_CACHE", str(tmp_path))
    assert "will be downloaded" in survey_cifar10().remarks[0]
    with pytest.raises(MissingFileError, match=r"set data\.download: true"):
        survey_cifar10(download=False)


def test_lines_of_a_summary() -> None:
    summary = DataSummary("pets", 1200, (3, 64, 32), {"cat": 400, "dog": 800}, ("a remark",))
    assert summary.lines() == [
        "pets: 1,200 images of 64 x 32 pixels, 3 channels",
        "2 classes, cat (400), dog (800)",
        "a remark",
    ]
    many = DataSummary("set", 1, (1, 8, 8), {str(i): i for i in range(20)})
    assert many.lines()[1].endswith("11 (11) and 8 more (0 to 19 images each)")

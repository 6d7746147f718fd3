"""Images are read as their owners see them, and what was skipped or changed is told."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dgray.data.image_files import read_folder, read_zip
from dgray.data.npz import read_npz
from dgray.data.published_surveys import survey_cifar10, survey_digits
from dgray.data.summary import DataSummary
from dgray.data.surveys import survey_npz
from dgray.errors import DataError, MissingFileError
from tests.data.written_images import GREY, PNG, RGB, RNG, Read, encoded, remark, write


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

"""Glyphs: many, distinct, centred, with ink; the same in every process; faces as classes."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from dgray.data.glyphs import EM, FACES, glyphs
from dgray.data.images import ImageSet
from dgray.data.published_surveys import GLYPHS, survey_glyphs

rendered = functools.cache(glyphs)


@pytest.fixture(scope="module", params=GLYPHS)
def glyph_set(request: pytest.FixtureRequest) -> ImageSet:
    return rendered(request.param)


def test_there_are_enough_and_no_two_are_the_same(glyph_set: ImageSet) -> None:
    assert len(glyph_set) >= 20_000
    assert len({image.tobytes() for image in glyph_set.pixels.numpy()}) == len(glyph_set)
    size = glyph_set.shape[1]
    assert glyph_set.shape == (1, size, size)


def test_the_survey_counts_them_without_rendering(glyph_set: ImageSet) -> None:
    assert survey_glyphs(glyph_set.shape[1]) == glyph_set.summary


def test_every_image_has_ink_in_its_middle(glyph_set: ImageSet) -> None:
    ink = glyph_set.pixels[:, 0] > 0
    assert ink.flatten(1).any(1).all()
    for axis in (1, 2):  # of the lines along the other axis, as many are empty on either side
        lines = ink.any(3 - axis).int()
        before, after = lines.argmax(1), lines.flip(1).argmax(1)
        assert ((after - before) >= 0).all()
        assert ((after - before) <= 1).all()


def test_contrast_is_full_and_most_of_an_image_is_used(glyph_set: ImageSet) -> None:
    assert glyph_set.pixels.max() == 255
    assert 0.08 < (glyph_set.pixels > 127).double().mean() < 0.25
    height = (glyph_set.pixels[:, 0] > 0).any(2).sum(1).double()
    assert height.median() > 0.6 * glyph_set.shape[1]


def test_every_face_is_a_class_of_more_than_a_thousand(glyph_set: ImageSet) -> None:
    assert glyph_set.labels is not None
    counts = torch.bincount(glyph_set.labels, minlength=len(FACES))
    assert glyph_set.num_classes == len(FACES) == len(counts) == 12
    assert counts.min() > 1000
    assert counts.max() < 3000


def test_a_bold_face_has_more_ink_than_its_regular() -> None:
    glyph_set = rendered(28)
    assert glyph_set.labels is not None
    ink = [glyph_set.pixels[glyph_set.labels == i].double().mean() for i in range(len(FACES))]
    for i, face in enumerate(FACES):
        if "Bold" in face:
            assert ink[i] > 1.15 * ink[i - 2], face


def test_the_first_is_a_capital_a() -> None:
    """Two strokes at the bottom, one at the top, symmetric but for hinting."""
    image = rendered(28).pixels[0, 0].double()
    rows = torch.nonzero(image.any(1))[:, 0]
    assert 0.68 * 28 * EM < len(rows) < 0.78 * 28 * EM  # DejaVu's capitals are 0.73 em high

    def strokes(row: int) -> int:
        ink = (image[row] > 100).int()
        return int((ink.diff(prepend=torch.zeros(1)) == 1).sum())

    assert strokes(int(rows[1])) == 1
    assert strokes(int(rows[-2])) == 2


def test_a_fresh_process_renders_the_same_bytes(tmp_path: Path) -> None:
    line = "from dgray.data.glyphs import glyphs; print(glyphs(16).sha256)"
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONHASHSEED": "1",
        "MPLCONFIGDIR": str(tmp_path),
    }
    command = [sys.executable, "-c", line]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == rendered(16).sha256
    assert rendered(28).sha256 != rendered(16).sha256


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="16, 28, 32 pixels, but got 24"):
        glyphs(24)


def test_missing_fonts_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"DejaVuSans\.ttf.*install matplotlib"):
        glyphs(16)

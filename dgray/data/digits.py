"""Handwritten digits of 8 x 8 pixels that come with scikit-learn: images in no time, offline."""

from __future__ import annotations

import numpy as np
import torch

from dgray.data.images import ImageSet


def digits() -> ImageSet:
    """1,797 grey images of 8 x 8, labels 0..9 (Alpaydin and Kaynak 1998, UCI).

    Their 17 shades 0..16 become the bytes round(255 shade / 16), from which
    shade = round(16 byte / 255) comes back exactly.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this needs it

    shades, labels = load_digits(return_X_y=True)
    pixels = np.rint(shades * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return ImageSet(
        "digits", torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)), 10
    )

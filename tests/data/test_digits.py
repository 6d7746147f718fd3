"""The digits of scikit-learn as bytes."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from dgray.data.digits import digits


def test_shades_and_labels_come_back_exactly() -> None:
    shades, labels = load_digits(return_X_y=True)
    found = digits()
    assert found.shape == (1, 8, 8)
    assert np.array_equal(np.rint(found.pixels.flatten(1).numpy() / 255 * 16), shades)
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()
    assert found.num_classes == 10
    assert len(found.pixels.unique()) == 17
    assert found.pixels.max() == 255

"""Accuracy and expected calibration error against hand-made cases."""

from __future__ import annotations

import pytest
import torch

from dgray.metrics.classification import accuracy, calibration_error


def test_accuracy_is_balanced() -> None:
    real, generated = torch.tensor([[1.0], [2.0], [-1.0], [3.0]]), torch.tensor([[-1.0], [1.0]])
    estimate = accuracy(real, generated)
    assert estimate.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert estimate.se == pytest.approx(((1 / 4) ** 2 + (1 / 2) ** 2) ** 0.5 / 2)


def test_an_undecided_discriminator_is_right_half_of_the_time() -> None:
    assert accuracy(torch.zeros(4, 2), torch.zeros(4, 2)).value == 0.5


def test_calibrated_logits_have_no_error() -> None:
    """A logit of log 3 on 3 real for every generated one."""
    logit = torch.full((3000,), float(torch.log(torch.tensor(3.0))))
    real, generated = torch.cat([logit, -logit[:1000]]), torch.cat([logit[:1000], -logit])
    assert calibration_error(real, generated) == pytest.approx(0, abs=1e-6)


def test_confident_and_wrong_half_of_the_time_is_a_half() -> None:
    logits = torch.tensor([20.0, -20.0])
    assert calibration_error(logits, logits) == pytest.approx(0.5, abs=1e-6)


def test_unequal_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        calibration_error(torch.zeros(3), torch.zeros(2))

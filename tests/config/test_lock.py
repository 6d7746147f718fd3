"""``study.lock.yaml``: every default written out, and the same plan from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.reading.load import load_study, lock_text
from dgray.plan.plan import make_plan
from tests.config.conftest import MINIMAL, Load

GRID = """\
name: grid
description: "A question: which?"
seed: 3
data: {kind: mixture, name: ring8, num_real: [100, 1000]}
base: {kind: wrong_mixture, mean_shift: [0, [0.1, 0.2]]}
discriminator: {width: [16]}
fit:
  learning_rate: [1e-5, 0.001]
  objective: [cross_entropy, kl, oracle]
  epochs: 4
  checkpoints: [2, 4]
evaluate: {guidance_weight: [0, 0.5, calibrated], guidance_interval: [null, [0.1, 1]]}
"""
COMPONENTS = """\
name: written_out
data: {kind: mixture, components: {means: [[0], [2]], stds: [1, 0.5]}}
base: {kind: wrong_mixture, components: {means: [[0]], stds: [1.5]}}
"""
TRAINED = "name: t\ndata: {kind: mixture, name: grid25}\nbase: {kind: trained, depth: [1, 2]}\n"


@pytest.mark.parametrize("text", [MINIMAL, GRID, COMPONENTS, TRAINED])
def test_the_lock_loads_to_the_same_plan(load: Load, tmp_path: Path, text: str) -> None:
    study = load(text)
    path = tmp_path / "study.lock.yaml"
    path.write_text(lock_text(study))
    locked = load_study(path)
    assert make_plan(locked).trials == make_plan(study).trials
    assert (locked.axes, locked.raw) == (study.axes, study.raw)
    assert (locked.name, locked.description) == (study.name, study.description)
    assert lock_text(locked) == lock_text(study)


def test_defaults_are_filled_in_and_axes_stay_lists(load: Load) -> None:
    text = lock_text(load(GRID))
    assert "sigma_max: 80.0" in text
    assert "num_held_out: 2000" in text
    assert "learning_rate: [1e-05, 0.001]" in text
    assert "width: [16]" in text
    assert "metrics: [kl, path_kl]" in text


def test_overrides_are_in_the_lock(load: Load) -> None:
    assert "seed: 17" in lock_text(load(MINIMAL, "seed=17"))

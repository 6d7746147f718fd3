"""Repeated points count once, in plans as in splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dgray.cli.study import main
from dgray.data.points import read_points
from dgray.data.splits import split
from dgray.errors import DataError
from tests.problem.written_studies import Values, inspected


def point_sections(folder: Path, values: Sequence[float], **sizes: int) -> Values:
    np.savez(folder / "points.npz", x=np.array(values, dtype=float)[:, None])
    data = {"kind": "points", "path": str(folder / "points.npz"), **sizes}
    base: Values = {"kind": "trained", "num_real": min(10, sizes["num_real"])}
    return {"data": data, "base": base, "evaluate": {"metrics": ["path_kl"]}}


@pytest.mark.parametrize(
    ("values", "sizes", "field", "limit"),
    [
        ([0, 1, 2, 3] * 50, (60, 50, 70), "data.num_real", 50),
        ([0, 1] * 100, (5, 101, 70), "data.num_validation", 100),
        ([0, 1] * 100, (5, 5, 70), "data.num_real", 0),
    ],
)
def test_repeated_points_are_counted_once_in_the_plan(
    folder: Path,
    values: list[float],
    sizes: tuple[int, int, int],
    field: str,
    limit: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, validation, held_out = sizes
    sections = point_sections(
        folder, values, num_real=real, num_validation=validation, num_held_out=held_out
    )
    conflict = inspected(folder, **sections).conflicts[0]
    different = len(set(values))
    assert conflict.field == field
    assert f"at most {limit}," in conflict.rule
    assert f"only {different} of the 200 points of points are different" in conflict.rule
    assert main([str(folder / "study.yaml"), "--plan"]) == 2
    assert f"{different} different points; identical ones" in capsys.readouterr().out


def test_the_plan_refuses_the_repeated_points_that_cannot_be_split(folder: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for seed in range(30):
        sizes = {"validation": 4, "held_out": 6, "real": int(rng.integers(2, 12))}
        values = [*rng.integers(0, 8, 24).tolist(), 100]
        named = {f"num_{name}": size for name, size in sizes.items()}
        (of_seed := folder / str(seed)).mkdir()  # files are read once
        sections = point_sections(of_seed, values, **named)
        conflicts = inspected(of_seed, **sections).conflicts
        points = read_points(str(of_seed / "points.npz"))
        splits = sizes | {"training-0": sizes["real"], "base": sections["base"]["num_real"]}
        del splits["real"]
        try:
            split(points, splits, 0)
        except DataError:
            assert conflicts
        else:
            assert not conflicts
        outcomes.add(bool(conflicts))
    assert outcomes == {True, False}

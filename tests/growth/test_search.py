"""A search that gets more points: in rounds they are those of a search that had them at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dgray.plan.cells import cells_of
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from dgray.search.records import Asked, Told, read_events
from tests.search.analytic import load, run_search

STOPPING = "search.early_stopping={method: median, num_startup_trials: 2}"


def events(
    root: Path, name: str, *overrides: str, points: int | None = None
) -> list[Asked | Told]:
    """Run the search in a folder and return all of its events, without times."""
    study = load(root, *overrides)
    folder = RunFolder(root / name)
    run_search(make_plan(study), folder, points=points)
    (cell,) = cells_of(study)
    return [replace(event, seconds=0.0) for event in read_events(folder, cell.id)]


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
@pytest.mark.parametrize("stopping", ["search.early_stopping=null", STOPPING])
def test_more_points_in_rounds_are_those_of_a_longer_search(
    sampler: str, stopping: str, tmp_path: Path
) -> None:
    kind = ["search.rounds=4", f"search.sampler={sampler}", stopping]
    short = events(tmp_path, "grown", *kind, "search.num_trials=6")
    assert sum(isinstance(event, Told) for event in short) == 6
    events(tmp_path, "grown", *kind, "search.num_trials=11", points=1)  # killed in between
    grown = events(tmp_path, "grown", *kind, "search.num_trials=11")
    assert grown == events(tmp_path, "fresh", *kind, "search.num_trials=11")
    assert sum(isinstance(event, Told) for event in grown) == 11


def test_more_points_without_rounds_follow_those_of_the_run(tmp_path: Path) -> None:
    short = events(tmp_path, "grown", "search.num_trials=6")
    assert events(tmp_path, "grown", "search.num_trials=9")[: len(short)] == short

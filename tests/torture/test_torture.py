"""Random processes are killed at random times; the study ends with the rows of a normal run."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.torture import DECK, DECK_OF_IMAGES, Log, Torture

STUDIES = Path(__file__).parent


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Folder with a short path: those of Ray's sockets may have at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="dg"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.long(minutes=5)
def test_rows_after_kills_equal_those_of_an_undisturbed_run(
    short_folder: Path, pytestconfig: pytest.Config
) -> None:
    kills, seed = (pytestconfig.getoption(name) for name in ("--kills", "--torture-seed"))
    path = pytestconfig.getoption("--torture-log")
    log = Log(None if path is None else Path(path))
    log.say(f"{kills} kills, seed {seed}, {os.cpu_count()} CPUs")
    chance = random.Random(seed)
    points = Torture(STUDIES / "points.yaml", short_folder / "p", DECK, chance, log)
    images = Torture(STUDIES / "images.yaml", short_folder / "i", DECK_OF_IMAGES, chance, log)
    half = kills // 2
    left = points.round(half) + kills - half
    left = images.round(left)
    while left:
        for torture in (points, images):
            left = torture.round(left)
    log.say(log.summary())
    assert log.kills.total() == kills

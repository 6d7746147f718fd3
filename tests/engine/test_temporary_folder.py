"""Temporary folders: private, removed at the end, or by the next start after a hard kill."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dgray.engine.temporary_folder import temporary_folder

ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from dgray.engine.temporary_folder import temporary_folder
with temporary_folder("trials") as folder:
    open(os.path.join(folder, "state"), "w").close()
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_driver_left_goes_and_what_another_uses_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, timeout=60, check=False
    )
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / "dgray-trials-of-mine.txt").touch()  # no folder
    with temporary_folder("trials") as first:
        assert not left.exists()
        assert first.stat().st_mode & 0o777 == 0o700
        with temporary_folder("trials") as second:
            assert Path(first).is_dir()
            assert Path(second).is_dir()
        assert Path(first).is_dir()
        assert not Path(second).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["dgray-trials-of-mine.txt"]

"""GPUs of a cluster, as Ray counts them: who is shown which."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("gpu_driver.py")


@pytest.mark.ray
@pytest.mark.long
def test_trials_and_actors_are_shown_the_gpus_they_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DRIVER, ROOT, tmp_path],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AS EXPECTED" in done.stdout

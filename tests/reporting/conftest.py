"""Synthetic runs on disk, written once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reporting.synthetic import counterexample, write_run
from tests.reporting.synthetic_overfit import results


@pytest.fixture(scope="session")
def overfit_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overfit-like run; read only."""
    return write_run(tmp_path_factory.mktemp("overfit"), results())


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two widths and the fewest real samples: all figures with fewer panels."""
    left_out = ("width 32", "num_real 1000")
    parts = (r for r in results() if not any(part in r.rows[0].label for part in left_out))
    return write_run(tmp_path_factory.mktemp("small"), parts)


@pytest.fixture(scope="session")
def counterexample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of controls only, in one dimension; read only."""
    return write_run(tmp_path_factory.mktemp("counter"), counterexample())

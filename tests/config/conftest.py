from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dgray.config.reading.load import Study, load_study
from dgray.errors import StudyError

Load = Callable[..., Study]
Refuse = Callable[..., list[str]]

MINIMAL = """\
name: small
data: {kind: mixture, name: ring8}
base: {kind: wrong_mixture, std_scale: 1.3}
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a study given as text."""

    def load(text: str, *overrides: str) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study(path, overrides)

    return load


@pytest.fixture
def refuse(load: Load, tmp_path: Path) -> Refuse:
    """The problems of a study that must be refused, without the folder of its file."""

    def refuse(text: str, *overrides: str) -> list[str]:
        with pytest.raises(StudyError) as refused:
            load(text, *overrides)
        return str(refused.value).replace(f"{tmp_path}/", "").splitlines()

    return refuse

"""Reading of image files in both forms."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dgray.data.image_files import read_folder, read_zip
from dgray.data.images import ImageSet
from dgray.data.summary import DataSummary
from dgray.data.surveys import survey_folder, survey_zip
from tests.data.written_images import Read, write


@pytest.fixture(params=["folder", "zip"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    """Writes files, reads them, and checks that the survey from headers says the same."""

    def from_files(files: dict[str, bytes], **options: Any) -> ImageSet:
        if request.param == "folder":
            root = write(tmp_path / "set", files)
            images, survey = read_folder(root, **options), survey_folder(root, **options)
        else:
            path = tmp_path / "set.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            images, survey = read_zip(path, **options), survey_zip(path, **options)
        summary = images.summary
        assert (survey.num_images, survey.shape) == (summary.num_images, summary.shape)
        assert survey.classes == summary.classes
        assert set(survey.remarks) <= set(summary.remarks)
        assert DataSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
        return images

    return from_files

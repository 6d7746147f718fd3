"""Test that the generated documents are current and that their examples are correct."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dgray.config.reading.load import load_study
from dgray.config.reading.schema import all_fields
from dgray.errors import StudyError
from dgray.plan.plan import make_plan
from dgray.record.row import row_columns
from docs import generate as document

DOCS = Path(__file__).parents[2] / "docs"
REGENERATE = "run: python docs/generate.py"


def test_the_committed_documents_are_current(tmp_path: Path) -> None:
    document.write(tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["parquet_schema.md", "study.schema.json", "study_file.md"]
    for name in written:
        assert (DOCS / name).read_text() == (tmp_path / name).read_text(), REGENERATE


def test_every_field_has_a_line_with_its_meaning() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+) \|$", document.study_file_text(), re.M
    )
    meanings = {field: meaning for field, _, _, meaning in rows}
    assert set(all_fields()) == set(meanings)
    for field, meaning in meanings.items():
        assert re.search(r"\w", meaning.removesuffix("(*no axis*)")), field


@pytest.mark.parametrize(
    ("field", "cells"),
    [
        ("fit.dropout", "number >= 0, < 1 | `0.0`"),
        ("fit.checkpoints", "list of integer > 0 or null | `null`"),
        ("data.kind", "`mixture` | required"),
        (
            "evaluate.guidance_weight",
            'list of (number >= 0 or `calibrated`) | `[1.0, "calibrated"]`',
        ),
        ("evaluate.guidance_interval", "list of ([number > 0, number > 0] or null) | `[null]`"),
        ("base.mean_shift", "list of number or number | `0.0`"),
    ],
)
def test_types_and_ranges(field: str, cells: str) -> None:
    assert f"| `{field}` | {cells} |" in document.study_file_text()


def test_every_column_has_its_unit_and_meaning() -> None:
    text = document.parquet_schema_text()
    for column in row_columns():
        doc = column.doc.replace("|", "\\|")
        assert re.search(rf"^\| `{column.name}` \| \S+ \| {column.unit} \|", text, re.M)
        assert f"| {doc} |" in text
    assert "| `path_kl_bins` | list<float64> | nats |" in text
    assert "| `replicate` | int64 |  |" in text


def example() -> str:
    """Return the example study at the beginning of docs/study_file.md."""
    match = re.search(r"```yaml\n(.*?)```", document.study_file_text(), re.S)
    assert match is not None
    return match[1]


def test_the_example_has_the_stated_number_of_trials(tmp_path: Path) -> None:
    path = tmp_path / "widths.yaml"
    path.write_text(example())
    plan = make_plan(load_study(path))
    assert sum(trial.is_trained for trial in plan.trials) == 2 * 3 * 2


def test_the_errors_shown_are_those_of_the_example_with_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes = {"width:": "widht:", "cross_entropy": "cross_entropi", "80, 400]": "80, 800]"}
    text = example()
    for right, wrong in mistakes.items():
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "widths.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as refused:
        load_study(Path("studies/widths.yaml"), ["base.num_generated=0"])
    assert f"```text\n{refused.value}\n```" in document.study_file_text()

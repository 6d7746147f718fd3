"""Reading YAML with places: syntax, duplicates, and values that JSON cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.config.reading.document import read_document
from dgray.config.reading.load import load_study
from dgray.errors import StudyError
from tests.config.conftest import Refuse


def test_every_value_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("fit:\n  epochs: 3\n  checkpoints:\n    - 1\n    - 3\n")
    document = read_document(path)
    places = {path: (place.line, place.column) for path, place in document.places.items()}
    assert places == {
        ("fit",): (1, 1),
        ("fit", "epochs"): (2, 3),
        ("fit", "checkpoints"): (3, 3),
        ("fit", "checkpoints", 0): (4, 7),
        ("fit", "checkpoints", 1): (5, 7),
    }
    assert document.values == {"fit": {"epochs": 3, "checkpoints": [1, 3]}}


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("a: [1e-3, no, on, 010, 1_000, ~, true, '1']\n")
    assert read_document(path).values["a"] == [0.001, "no", "on", 10, 1000, None, True, "1"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "study.yaml:3:1: a: given twice, first at study.yaml:1:1"),
        ("fit: {epochs: 1,\n  epochs: 2}\n", "study.yaml:2:3: fit.epochs: given twice"),
        ("a: [1, 2\nb: 3\n", "study.yaml:2:2: not valid YAML: expected ',' or ']'"),
        ("a: b: c\n", "study.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: *x\n", "study.yaml:1:4: not valid YAML: found undefined alias 'x'"),
        ("a: &x [*x]\n", "study.yaml:1:4: a[0]: an alias must not contain itself"),
        ("1: a\n", "study.yaml:1:1: field names are text, but got '1'"),
        ("a: 2020-01-01\n", "study.yaml:1:4: a: must be text, a number"),
        ("a: !!python/name:os.system x\n", "study.yaml:1:4: a: must be text, a number"),
        ("- 1\n", "study.yaml:1:1: a study is a mapping of fields to values"),
        ("a: 1\n---\nb: 1\n", "study.yaml:2:1: not valid YAML: but found another document"),
    ],
)
def test_what_is_not_a_study_is_refused_with_its_line(
    refuse: Refuse, text: str, problem: str
) -> None:
    (line,) = refuse(text)
    assert line.startswith(problem)


def test_an_empty_file_lacks_the_required_fields(refuse: Refuse) -> None:
    assert refuse("") == [
        "study.yaml: base: required field is missing",
        "study.yaml: data: required field is missing",
        "study.yaml: name: required field is missing",
    ]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere\.yaml: cannot be read: no such file"):
        load_study(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(path)


def test_a_tag_of_an_object_is_refused(tmp_path: Path, refuse: Refuse) -> None:
    tagged = f"!!python/object/apply:os.mkdir [{tmp_path}/made]"
    refuse(f"name: a\ndata: {tagged}\nbase: {{kind: wrong_mixture}}\n")
    assert not (tmp_path / "made").exists()

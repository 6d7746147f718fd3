"""Points of npz, CSV and Parquet files: what is read, told and refused."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dgray.data.point_files import read_table, survey_points
from dgray.data.points import read_points
from dgray.data.splits import split
from dgray.errors import DataError, MissingFileError

RNG = np.random.default_rng(0)
VALUES = RNG.normal([5, -2], [3, 0.1], (40, 2)).round(6)
CLASSES = np.array(["up", "down"] * 20)


def write_npz(folder: Path) -> Path:
    np.savez(folder / "data.npz", x=VALUES, y=CLASSES)
    return folder / "data.npz"


def write_csv(folder: Path) -> Path:
    lines = [f"{a},{b},{c},word" for (a, b), c in zip(VALUES, CLASSES, strict=True)]
    (folder / "data.csv").write_text("a,b,y,note\n" + "\n".join(lines) + "\n")
    return folder / "data.csv"


def write_parquet(folder: Path) -> Path:
    table = pa.table({"a": VALUES[:, 0], "b": VALUES[:, 1], "y": CLASSES})
    pq.write_table(table, folder / "data.parquet")
    return folder / "data.parquet"


@pytest.mark.parametrize("write", [write_npz, write_csv, write_parquet])
def test_all_formats_give_the_same_points(write: Callable[[Path], Path], tmp_path: Path) -> None:
    table = read_table(str(write(tmp_path)), label="y", standardise=False)
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.labels is not None
    assert [table.class_names[i] for i in table.labels] == CLASSES.tolist()


def test_standardised_coordinates_and_what_is_told(tmp_path: Path) -> None:
    path = str(write_csv(tmp_path))
    table = read_table(path, label="y")
    np.testing.assert_allclose(table.values.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(table.values.std(0), 1)
    shift = math.log(VALUES[:, 0].std()) + math.log(VALUES[:, 1].std())
    first, classes, *others = survey_points(path, label="y").lines()
    assert first == "data: 40 points of 2 dimensions"
    assert classes == "2 classes, down (20), up (20)"
    assert others[:2] == ["coordinates: a, b", "skipped columns without numbers: note"]
    assert f"nll is higher by {shift:.4g} nats" in others[2]


def test_columns_and_arrays_are_chosen_by_name(tmp_path: Path) -> None:
    table = read_table(str(write_parquet(tmp_path)), ["b"], standardise=False)
    np.testing.assert_array_equal(table.values, VALUES[:, 1:])
    matrix = read_table(str(write_npz(tmp_path)), standardise=False)
    assert matrix.columns == ("x[0]", "x[1]")
    assert "not used: y" in matrix.remarks


def test_identical_points_are_in_one_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "twice.npz", x=np.concatenate([VALUES, VALUES]))
    points = read_points(str(tmp_path / "twice.npz"))
    rows = split(points, {"held_out": 20, "validation": 10, "training-0": 30}, 0)
    sets = [{tuple(p) for p in points.content[r].tolist()} for r in rows.values()]
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]


CSV = {
    "empty": ("", "is empty"),
    "binary": ("a,b\n\x00\x01", "must"),
    "no header": ("1,2\n3,4\n", "the first line must name the columns, but holds numbers"),
    "ragged": ("a,b\n1,2\n3\n", "every line must have 2 values, but line 3 has 1"),
    "other separator": ("a;b\n1;2\n", "must be separated by commas, but the first line has ';'"),
    "no name": (",a\n0,2\n", "every column must have a name, but column 1 has none"),
    "huge": ("a\n" + "1\n" * 8 + "1e300\n", "must be at most 1e+15 in size, but that of point 9"),
    "same names": ("a,a\n1,2\n", "the columns must have different names"),
    "few": ("a\n1\n2\n", "at least 5"),
    "missing": ("a,b\n1,2\n,3\n1,1\n2,2\n3,5\n", "the first in point 2 of column 'a'"),
    "infinite": ("a\n1\ninf\n1\n2\n3\n", "must be finite numbers"),
    "constant": ("a\n1\n1\n1\n1\n1\n", "column 'a' must not be constant"),
    "text": ("a\nx\ny\nz\nx\ny\n", "must have a column of numbers"),
    "some text": ("a\n1\n2\nN/A\n3\n4\n5\n", "the first in point 3: 'N/A'"),
}


@pytest.mark.parametrize(("text", "message"), CSV.values(), ids=CSV)
def test_hostile_tables_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_table(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 250


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no such file"):
        read_table(str(tmp_path / "nothing.csv"))
    for name, content, message in (
        ("a.txt", b"", "must end in .npz, .csv, .parquet"),
        ("a.npz", b"PK\x03\x04rubbish", "must be an npz"),
        ("a.parquet", b"PAR1rubbish", "must be a Parquet file"),
        ("a.csv", b"\xff\xfe\x00", "must be a CSV file in UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as refused:
            read_table(str(tmp_path / name))
        assert "\n" not in str(refused.value)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="must be an npz of plain numbers"):
        read_table(str(tmp_path / "objects.npz"))
    with pytest.raises(DataError, match="has no column 'z'"):
        read_table(str(write_csv(tmp_path)), ["z"])
    with pytest.raises(DataError, match="whole numbers or text"):
        read_table(str(write_csv(tmp_path)), ["b"], "a")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("a", "y"), "must name columns of numbers, but 'y' holds none"),
        (("a", "a"), "must name a column once, but names 'a' 2 times"),
        ((), "must name a column, but is empty"),
    ],
)
def test_a_choice_of_columns_is_not_reduced_silently(
    columns: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for write in (write_csv, write_parquet):
        with pytest.raises(DataError, match=message):
            read_table(str(write(tmp_path)), columns)


def test_decimals_are_coordinates_and_dates_are_named_as_skipped(tmp_path: Path) -> None:
    decimals = pa.array([Decimal(f"{a:.3f}") for a in VALUES[:, 0]])
    dates = pa.array([datetime.date(2026, 1, 1)] * len(VALUES))
    table = pa.table({"a": decimals, "b": VALUES[:, 1], "day": dates})
    pq.write_table(table, tmp_path / "data.parquet")
    read = read_table(str(tmp_path / "data.parquet"), standardise=False)
    assert read.columns == ("a", "b")
    np.testing.assert_allclose(read.values[:, 0], VALUES[:, 0].round(3))
    assert any("skipped columns without numbers: day" in remark for remark in read.remarks)


def test_a_missing_class_is_no_class(tmp_path: Path) -> None:
    labels = ["up", None] * 20
    pq.write_table(pa.table({"a": VALUES[:, 0], "y": labels}), tmp_path / "data.parquet")
    lines = [f"{a},{c}" for a, c in zip(VALUES[:, 0], ["up", "up", "", "down"] * 10, strict=True)]
    (tmp_path / "data.csv").write_text("a,y\n" + "\n".join(lines) + "\n")
    for name, count, first in (("data.parquet", 20, 2), ("data.csv", 10, 3)):
        message = (
            f"must hold one class a point, but {count} are missing, the first in point {first}"
        )
        with pytest.raises(DataError, match=message):
            read_table(str(tmp_path / name), label="y")

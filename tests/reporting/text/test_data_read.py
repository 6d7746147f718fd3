"""Lines about the data that a study read."""

from __future__ import annotations

from dgray.data.summary import DataSummary
from dgray.reporting.text.data_read import data_lines


def test_lines_of_provenance() -> None:
    summary = DataSummary("pets", 3, (3, 8, 8), {"cat": 1, "dog": 2}, ("skipped 1 entry: x",))
    (line,) = data_lines({"data": [summary.to_json()]})
    assert line == (
        "pets: 3 images of 8 x 8 pixels, 3 channels; 2 classes, cat (1), dog (2); "
        "skipped 1 entry: x"
    )


def test_records_without_data_or_damaged_ones_have_no_lines() -> None:
    for provenance in ({}, {"data": None}, {"data": [{}]}, {"data": [{"shape": 3}]}):
        assert data_lines(provenance) == []

"""Rows of a checkpoint as lists."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa

from dgray.reporting.tensorboard.rows import Rows, checkpoints


def test_missing_and_nan_values_are_left_out_of_means() -> None:
    table = pa.table({"a": [1.0, None, math.nan, 4.0], "b": pa.nulls(4, pa.float64())})
    rows = Rows.of_table(table)
    assert rows.mean("a") == 2.5
    assert rows.mean("b") is None
    assert rows.mean("unknown") is None
    assert list(rows["unknown"]) == [None] * 4
    assert rows.where([True, False, False, True])["a"] == [1.0, 4.0]
    assert len(rows.where([False] * 4)) == 0


def test_rows_are_taken_in_the_order_of_the_indices() -> None:
    rows = Rows({"a": [10, 11, 12]}, 3)
    assert rows.take([2, 0, 1])["a"] == [12, 10, 11]


def test_lists_are_averaged_by_entry_and_points_become_arrays() -> None:
    kinds = {"bins": pa.list_(pa.float64()), "points": pa.list_(pa.list_(pa.float64()))}
    bins, points = [[1.0, 2.0], None, [3.0, 6.0]], [[[0.0, 1.0], [2.0, 3.0]], None, [[4.0, 5.0]]]
    table = pa.table({"bins": bins, "points": points}, schema=pa.schema(list(kinds.items())))
    rows = Rows.of_table(table)
    mean = rows.mean_of_lists("bins")
    assert mean is not None
    assert mean.tolist() == [2.0, 4.0]
    first, second, third = rows["points"]
    np.testing.assert_array_equal(first, [[0.0, 1.0], [2.0, 3.0]])
    assert second is None
    np.testing.assert_array_equal(third, [[4.0, 5.0]])


def test_checkpoints_of_a_frame_keep_the_order_of_trials_and_of_rows() -> None:
    frame = pd.DataFrame(
        {
            "trial": ["b", "a", "b", "b", "a"],
            "epoch": [2, 1, 1, 2, 1],
            "value": [1.0, 2.0, 3.0, 4.0, None],
            "empty": [None] * 5,
        }
    )
    parts = [(trial, epoch, list(rows["value"])) for trial, epoch, rows in checkpoints(frame)]
    assert [part[:2] for part in parts] == [("b", 1), ("b", 2), ("a", 1)]
    assert parts[0][2] == [3.0]
    assert parts[1][2] == [1.0, 4.0]
    assert parts[2][2][0] == 2.0
    assert math.isnan(parts[2][2][1])
    assert list(checkpoints(frame.iloc[:0])) == []

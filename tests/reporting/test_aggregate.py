"""Averages over replicates against numbers worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from synthetic import Member, row, table_of

from dgray.reporting.table import NoRowsError, study_table

BASE = Member("base", {})
KL = Member("kl", {"fit.objective": "kl", "discriminator.width": 8}, epochs=(5,))


def test_standard_error_adds_spread_and_own_error() -> None:
    values = [(1.0, 0.1), (2.0, 0.2), (3.0, 0.2)]
    rows = [row(KL, 5, 1.0, replicate=i, kl=v, kl_se=e) for i, (v, e) in enumerate(values)]
    line = table_of(rows).aggregated.iloc[0]
    assert line["kl"] == 2.0
    # Variance between is 1, over 3 replicates 1/3; own errors: (0.01 + 0.04 + 0.04) / 3 = 0.03.
    assert line["kl_se"] == pytest.approx((1 / 3 + 0.03) ** 0.5)
    assert line["replicates"] == 3


def test_one_replicate_keeps_its_own_error() -> None:
    line = table_of([row(KL, 5, 1.0, kl=1.0, kl_se=0.25)]).aggregated.iloc[0]
    assert line["kl_se"] == 0.25


def test_metric_without_own_error_has_the_spread() -> None:
    rows = [row(KL, 5, 1.0, replicate=i, accuracy=a) for i, a in enumerate((0.5, 0.7))]
    line = table_of(rows).aggregated.iloc[0]
    assert line["accuracy_se"] == pytest.approx(0.1)  # standard deviation 0.1414 over sqrt(2)
    assert pd.isna(table_of(rows[:1]).aggregated.iloc[0]["accuracy_se"])


def test_failed_rows_enter_no_average() -> None:
    rows = [
        row(KL, 5, 1.0, replicate=0, kl=1.0, kl_se=0.1),
        row(KL, 5, 1.0, replicate=1, status="failed", reason="NaN loss"),
    ]
    table = table_of(rows)
    assert table.aggregated.iloc[0]["kl"] == 1.0
    assert table.aggregated.iloc[0]["replicates"] == 1
    assert table.failures["reason"].tolist() == ["NaN loss"]


def test_cells_take_each_lens_from_its_sampler() -> None:
    rows = [
        row(BASE, kl=0.6, kl_se=0.0),
        row(BASE, sampler="sde", kl_sde=0.2, kl_sde_se=0.03),
        row(KL, 5, 1.0, kl=0.4, kl_se=0.0),
        row(KL, 5, 1.0, sampler="sde", kl_sde=0.3, kl_sde_se=0.04),
    ]
    cells = table_of(rows).cells
    assert len(cells) == 2
    guided = cells[cells["objective"] == "kl"].iloc[0]
    assert (guided["kl"], guided["kl_sde"]) == (0.4, 0.3)
    assert guided["base_trial"] == BASE.id
    assert guided["kl_sde_change"] == pytest.approx(0.1)
    assert guided["kl_sde_change_se"] == pytest.approx(0.05)  # 3-4-5


def test_base_is_matched_on_the_axes_it_has() -> None:
    bases = [Member("base", {"data.name": name}) for name in ("ring8", "grid25")]
    guided = Member("kl", {"data.name": "grid25", "discriminator.width": 8}, epochs=(5,))
    cells = table_of([*(row(b) for b in bases), row(guided, 5, 1.0, kl=0.1)]).cells
    assert cells[cells["objective"] == "kl"]["base_trial"].tolist() == [bases[1].id]


def test_list_columns_are_averaged_by_element() -> None:
    bins = [[1.0, 2.0], [3.0, 6.0]]
    rows = [row(KL, 5, 1.0, replicate=i, score_error_bins=b) for i, b in enumerate(bins)]
    line = table_of(rows).aggregated.iloc[0]
    assert line["score_error_bins"].tolist() == [2.0, 4.0]
    assert line["score_error_bins_se"].tolist() == pytest.approx([1.0, 2.0])


def test_order_does_not_depend_on_the_order_of_parts() -> None:
    rows = [row(KL, 5, w) for w in (None, 2.0, 0.5)] + [row(BASE)]
    shown = table_of(rows).rows
    assert shown["objective"].tolist() == ["base", "kl", "kl", "kl"]
    assert shown["guidance_weight"].tolist()[:3] == [0.0, 0.5, 2.0]
    assert shown["is_calibrated"].tolist()[3]
    pd.testing.assert_frame_equal(shown, table_of(rows[::-1]).rows)


def test_axes_become_columns_of_one_type() -> None:
    listed = Member("kl", {"base.mean_shift": [0.1, 0.2], "data.num_real": 100}, epochs=(5,))
    table = table_of([row(BASE), row(listed, 5, 1.0)])
    assert table.axes == ("base.mean_shift", "data.num_real")
    assert table.schema.field("data.num_real").type == "int64"
    assert table.rows["base.mean_shift"].tolist()[1] == "[0.1, 0.2]"


def test_no_rows_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NoRowsError, match="run the study"):
        table_of([row(BASE)]).rows.pipe(lambda rows: study_table(rows.iloc[:0], rows, rows))

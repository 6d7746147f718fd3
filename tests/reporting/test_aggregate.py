"""Averages over replicates against hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgray.errors import NoRowsError
from dgray.record.row import Row
from dgray.record.row_schema import to_table
from dgray.reporting.table import study_table
from tests.reporting.synthetic import Member, row, table_of

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


def test_failed_rows_are_left_out_of_averages() -> None:
    rows = [
        row(KL, 5, 1.0, replicate=0, kl=1.0, kl_se=0.1),
        row(KL, 5, 1.0, replicate=1, status="failed", reason="NaN loss"),
    ]
    table = table_of(rows)
    assert table.aggregated.iloc[0]["kl"] == 1.0
    assert table.aggregated.iloc[0]["replicates"] == 1
    assert table.failures["reason"].tolist() == ["NaN loss"]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_metric_missing_in_one_replicate_is_missing(value: float | None) -> None:
    shared = {"path_kl": 1.0, "path_kl_se": 0.1, "path_kl_bins": [1.0, 2.0]}
    lacking = {"kl": value, "score_error_bins": None}
    rows = [
        row(KL, 5, 1.0, replicate=0, kl=1.0, kl_se=0.1, score_error_bins=[1.0], **shared),
        row(KL, 5, 1.0, replicate=1, kl=1.0, kl_se=0.1, score_error_bins=[1.0], **shared),
        row(KL, 5, 1.0, replicate=2, **lacking, **shared),
    ]
    line = table_of(rows).aggregated.iloc[0]
    assert pd.isna(line["kl"])
    assert pd.isna(line["kl_se"])
    assert line["score_error_bins"] is None
    assert line["path_kl"] == 1.0
    assert line["path_kl_bins"].tolist() == [1.0, 2.0]


def test_mean_that_is_not_finite_has_no_error() -> None:
    values = (1.0, 1.2, float("inf"))
    rows = [row(KL, 5, 1.0, replicate=i, kl=v, kl_se=0.1) for i, v in enumerate(values)]
    line = table_of(rows).aggregated.iloc[0]
    assert line["kl"] == float("inf")
    assert pd.isna(line["kl_se"])


def test_change_of_the_sde_sampler_is_the_paired_change_of_the_rows() -> None:
    changes = [(0.1, 0.01), (0.3, 0.02)]
    rows = [row(BASE, sampler="sde", kl_sde=5.0, kl_sde_se=1.0)]
    for i, (value, error) in enumerate(changes):
        paired = {"kl_sde_change": value, "kl_sde_change_se": error}
        rows.append(row(KL, 5, 1.0, replicate=i, sampler="sde", kl_sde=0.5, **paired))
    cells = table_of(rows).models
    guided = cells[cells["objective"] == "kl"].iloc[0]
    assert guided["kl_sde_change"] == pytest.approx(0.2)
    # Between: variance 0.02 over 2 replicates; own: (0.0001 + 0.0004) / 2.
    assert guided["kl_sde_change_se"] == pytest.approx((0.01 + 0.00025) ** 0.5)


def test_diverged_metric_is_not_replaced_by_that_of_another_sampler() -> None:
    churn = {"kl_sde": 0.3, "kl_sde_se": 0.1, "kl_sde_change": 0.2, "kl_sde_change_se": 0.1}
    rows = [
        row(KL, 5, 1.0, kl=0.4),
        row(KL, 5, 1.0, sampler="sde", kl_sde=float("inf")),
        row(KL, 5, 1.0, sampler="churn", **churn),
    ]
    cell = table_of(rows).models.iloc[0]
    assert cell["kl_sde"] == float("inf")
    assert cell[["kl_sde_se", "kl_sde_change", "kl_sde_change_se"]].isna().all()


def test_column_younger_than_the_run_is_missing() -> None:
    rows = to_table([row(BASE, kl=0.6), row(KL, 5, 1.0, kl=0.4)], Row)
    young = ["kl_sde_change", "kl_sde_change_se", "path_kl_bins_se"]
    table = study_table(rows.drop_columns(young), pd.DataFrame(), pd.DataFrame())
    assert table.models[young].isna().all(axis=None)
    assert table.models["kl"].tolist() == [0.6, 0.4]


def test_models_take_each_metric_from_its_sampler() -> None:
    rows = [
        row(BASE, kl=0.6, kl_se=0.0),
        row(BASE, sampler="sde", kl_sde=0.2, kl_sde_se=0.03),
        row(KL, 5, 1.0, kl=0.4, kl_se=0.0),
        row(KL, 5, 1.0, sampler="sde", kl_sde=0.3, kl_sde_se=0.04),
    ]
    cells = table_of(rows).models
    assert len(cells) == 2
    guided = cells[cells["objective"] == "kl"].iloc[0]
    assert (guided["kl"], guided["kl_sde"]) == (0.4, 0.3)
    assert guided["base_trial"] == BASE.id
    assert pd.isna(guided["kl_sde_change"])  # no difference of independent levels


def test_base_is_matched_on_the_axes_it_has() -> None:
    bases = [Member("base", {"data.name": name}) for name in ("ring8", "grid25")]
    guided = Member("kl", {"data.name": "grid25", "discriminator.width": 8}, epochs=(5,))
    cells = table_of([*(row(b) for b in bases), row(guided, 5, 1.0, kl=0.1)]).models
    assert cells[cells["objective"] == "kl"]["base_trial"].tolist() == [bases[1].id]


def test_list_columns_are_averaged_by_element() -> None:
    bins = [[1.0, 2.0], [3.0, 6.0]]
    rows = [row(KL, 5, 1.0, replicate=i, score_error_bins=b) for i, b in enumerate(bins)]
    line = table_of(rows).aggregated.iloc[0]
    assert line["score_error_bins"].tolist() == [2.0, 4.0]
    assert line["score_error_bins_se"].tolist() == pytest.approx([1.0, 2.0])


def test_errors_of_lists_add_spread_and_own_error() -> None:
    lists = [([1.0, 2.0], [0.1, 0.0]), ([3.0, 6.0], [0.3, 0.0])]
    rows = [
        row(KL, 5, 1.0, replicate=i, path_kl_bins=b, path_kl_bins_se=e)
        for i, (b, e) in enumerate(lists)
    ]
    line = table_of(rows).aggregated.iloc[0]
    assert line["path_kl_bins_se"].tolist() == pytest.approx([(1 + 0.05) ** 0.5, 2.0])
    alone = table_of(rows[:1]).aggregated.iloc[0]
    assert alone["path_kl_bins_se"].tolist() == [0.1, 0.0]


def test_lists_are_averaged_where_all_those_of_a_model_have_one_length() -> None:
    rng = np.random.default_rng(0)
    lengths = [rng.choice([0, 2, 2, 3], size=rng.integers(1, 4)) for _ in range(40)]
    lists = [[rng.normal(size=n).tolist() or None for n in of_model] for of_model in lengths]
    rows = [
        row(KL, 5, float(model), replicate=i, path_kl_bins=v, path_kl_bins_se=v)
        for model, values in enumerate(lists)
        for i, v in enumerate(values)
    ]
    rng.shuffle(rows)
    lines = table_of(rows).aggregated.set_index("guidance_weight")
    num_even = 0
    for model, values in enumerate(lists):
        mean, error = lines.loc[model, ["path_kl_bins", "path_kl_bins_se"]]
        if None in values or len({len(value) for value in values}) > 1:
            assert mean is None
            assert error is None
            continue
        num_even += 1
        spread = np.var(values, 0, ddof=1) / len(values) if len(values) > 1 else 0.0
        assert mean.tolist() == pytest.approx(np.mean(values, 0).tolist())
        expected = np.sqrt(spread + np.mean(np.square(values), 0))
        assert error.tolist() == pytest.approx(expected.tolist())
    assert 10 < num_even < 30


@pytest.mark.parametrize("replicates", [1, 2])
def test_infinite_entries_of_lists_have_no_spread(replicates: int) -> None:
    values = [[np.inf, 1.0], [np.inf, 3.0]][:replicates]
    rows = [row(KL, 5, 1.0, replicate=i, path_kl_bins=v) for i, v in enumerate(values)]
    line = table_of(rows).aggregated.iloc[0]
    assert line["path_kl_bins"].tolist() == [np.inf, float(replicates)]
    if replicates > 1:
        np.testing.assert_array_equal(line["path_kl_bins_se"], [np.nan, 1.0])


def test_order_of_rows_does_not_depend_on_the_order_of_files() -> None:
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


def test_table_without_rows_is_refused_with_a_fix() -> None:
    with pytest.raises(NoRowsError, match="run the study"):
        study_table(to_table([], Row), pd.DataFrame(), pd.DataFrame())

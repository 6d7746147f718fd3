"""Log-log slopes of the error against the number of samples: values, errors, exclusions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from dgray.record.row import Row
from dgray.reporting.figures.sample_size import errors_against_samples
from dgray.reporting.figures.style import styled
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.slopes import SampleSeries, difference, fitted_trend, sample_series
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import find
from dgray.reporting.text.samples import SAMPLES
from tests.reporting.synthetic import Member, row, table_of

SIZES = (50, 100, 200, 400, 800)
BASE = Member("base", {})
FACTORS = np.exp(0.1 * np.random.default_rng(0).standard_normal((4, len(SIZES))))


def trials(
    objective: str,
    error: Callable[[int, int], float],
    *,
    sizes: Sequence[int] = SIZES,
    replicates: int = 4,
    axes: dict[str, object] | None = None,
    spread: float = 1e-3,
) -> list[Row]:
    """Rows of an objective whose path KL is a function of the number of samples and replicate."""
    rows = []
    for size in sizes:
        member = Member(
            objective, {"data.num_real": size, "fit.objective": objective, **(axes or {})}
        )
        for replicate in range(replicates):
            value = error(size, replicate)
            rows += [
                row(
                    member,
                    10,
                    1.0,
                    replicate=replicate,
                    path_kl=value,
                    path_kl_se=spread * abs(value),
                    path_kl_change=value - 0.2,
                    path_kl_change_se=1e-3,
                )
            ]
    return rows


def noisy(size: int, replicate: int) -> float:
    return float(3 * size**-0.5 * FACTORS[replicate, SIZES.index(size)])


def study(*rows: Row) -> StudyTable:
    return table_of([row(BASE, path_kl=0.2, path_kl_se=0.01), *rows])


def only(table: StudyTable) -> SampleSeries:
    (series,) = sample_series(table)
    return series


def sentence(table: StudyTable) -> str:
    (text,) = [s.text for s in find(table, "samples").statements if s.topic == SAMPLES]
    return text


def test_a_power_law_has_its_exponent_and_no_bend() -> None:
    series = only(study(*trials("kl", lambda n, r: 5 * n**-0.7)))
    assert series.slope is not None
    assert series.bend is not None
    assert series.slope.estimate.value == pytest.approx(-0.7, abs=1e-9)
    assert series.slope.sign == -1
    assert series.bend.estimate.value == pytest.approx(0, abs=1e-9)
    assert series.bend.sign == 0


def test_an_error_with_a_floor_bends() -> None:
    series = only(study(*trials("kl", lambda n, r: noisy(n, r) ** 2 + 0.02)))
    assert series.bend is not None
    assert series.bend.sign == 1
    assert "In 1 of 1 the line bends significantly" in sentence(
        study(*trials("kl", lambda n, r: noisy(n, r) ** 2 + 0.02))
    )


def test_precise_errors_weigh_more() -> None:
    """An outlying point of a large spread hardly moves the line; of equal spread it does."""
    law = dict(zip(SIZES, 3 * np.array(SIZES) ** -0.5, strict=True))

    def outlying(size: int, replicate: int) -> float:
        return law[size] * (
            (0.5, 3.5, 1.0, 3.0)[replicate] if size == 800 else 1 + 1e-3 * replicate
        )

    series = only(study(*trials("kl", outlying)))
    assert series.slope is not None
    assert series.slope.estimate.value == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("replicates", [4, 8])
@pytest.mark.parametrize(("correlation", "unequal"), [(0.0, 0.7), (0.6, 0.0)])
def test_confidence_intervals_cover_the_exponent(
    replicates: int, correlation: float, unequal: float
) -> None:
    """Replicates share a factor between sizes; held-out points are shared by all of them."""
    seed = np.random.default_rng([replicates, int(10 * correlation), int(10 * unequal)])
    sizes, own, count = np.array(SIZES, float), 0.01, 300
    quantile = stats.t.ppf(0.975, replicates - 1)
    law, covered, values, errors = sizes**-0.5, 0, [], []
    for _ in range(count):
        spread = 0.2 * np.exp(unequal * seed.standard_normal(len(sizes)))
        common, noise = (
            seed.standard_normal((replicates, 1)),
            seed.standard_normal((replicates, len(sizes))),
        )
        mixed = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * noise
        points = own * (np.sqrt(0.5) * seed.standard_normal(len(sizes) + 1))
        table = law * np.exp(spread * mixed - spread**2 / 2) * (1 + points[1:] + points[0])
        trend = fitted_trend(np.log(sizes), table, own * law, 1)
        covered += abs(trend.estimate.value + 0.5) < quantile * trend.estimate.error
        values.append(trend.estimate.value)
        errors.append(trend.estimate.error)
    assert 0.91 <= covered / count <= 0.99
    assert 0.85 <= np.mean(errors) / np.std(values) <= 1.3
    assert np.mean(values) == pytest.approx(-0.5, abs=0.02)


def test_a_wrong_null_value_is_rejected() -> None:
    """The intervals are no wider than needed: an exponent of 0 is outside nearly all of them."""
    seed = np.random.default_rng(1)
    sizes = np.array(SIZES, float)
    tables = [sizes**-0.5 * np.exp(0.2 * seed.standard_normal((8, 5))) for _ in range(50)]
    assert all(fitted_trend(np.log(sizes), t, 0 * sizes, 1).p < 0.01 for t in tables)


def test_slopes_are_compared_in_pairs_of_replicates() -> None:
    table = study(
        *trials("cross_entropy", noisy, spread=0),
        *trials("kl", lambda n, r: noisy(n, r) * n**-0.2, spread=0),
    )
    first, second = sample_series(table)
    trend = difference(second, first)
    assert trend is not None
    assert first.slope is not None
    assert trend.estimate.value == pytest.approx(-0.2, abs=1e-9)
    assert trend.estimate.error < 1e-9 < first.slope.estimate.error
    assert "steeper than that of cross-entropy (by −0.2" in sentence(table)


def test_an_error_that_is_not_above_zero_is_left_out_and_named() -> None:
    def touching(size: int, replicate: int) -> float:
        return (1, -1, 2, -1)[replicate] * 1e-3 if size == 800 else noisy(size, replicate)

    table = study(*trials("kl", touching))
    series = only(table)
    assert series.is_used.tolist() == [True, True, True, True, False]
    assert series.slope is not None
    text = sentence(table)
    assert "Left out, as not above zero by two standard errors or unreliable" in text
    assert "with 800 samples" in text
    drawing = _drawn(table)
    assert "with 800 samples" in drawing.caption
    assert drawing.data["is_used"].tolist() == series.is_used.tolist()


@pytest.mark.parametrize(
    "rows",
    [
        trials("kl", noisy, replicates=2),
        trials("kl", noisy, replicates=1),
        trials("kl", lambda n, r: noisy(n, r) if n < 200 else -1.0),
    ],
    ids=["two replicates", "one replicate", "two logarithms"],
)
def test_a_line_without_a_slope_is_drawn_without_a_statement(rows: list[Row]) -> None:
    table = study(*rows)
    assert only(table).slope is None
    assert not [s for s in find(table).statements if s.topic == SAMPLES]
    assert "no slope" in _labels(table)[0]


@pytest.mark.parametrize("sizes", [(50,), (50, 100)])
def test_fewer_than_three_sizes_have_no_figure(sizes: tuple[int, ...]) -> None:
    table = study(*trials("kl", noisy, sizes=sizes))
    assert sample_series(table) == []
    assert errors_against_samples(table) is None


def test_a_missing_replicate_is_left_out_everywhere() -> None:
    rows = [r for r in trials("kl", noisy) if '"data.num_real": 50,' not in r.axes or r.replicate]
    assert only(study(*rows)).replicates == (1, 2, 3)


def test_series_are_computed_once_for_each_table() -> None:
    table, other = (study(*trials("kl", noisy, sizes=sizes)) for sizes in (SIZES, SIZES[:3]))
    assert sample_series(table) is sample_series(table)
    assert len(only(other).sizes) == 3
    assert len(only(table).sizes) == len(SIZES)


def test_only_configurations_that_differ_in_one_field_are_drawn() -> None:
    table = study(
        *(
            one
            for decay in (0.0, 0.1)
            for patience in (0, 5)
            for one in trials(
                "kl", noisy, axes={"fit.weight_decay": decay, "fit.patience": patience}
            )
        )
    )
    assert len(sample_series(table)) == 4
    labels = [label.partition(":")[0] for label in _labels(table)]
    assert sorted(labels) == ["first configuration", "patience 5", "weight_decay 0.1"]
    drawing = _drawn(table)
    assert "1 configuration with several other fields" in drawing.caption
    assert len(drawing.data) == 4 * len(SIZES)


def _drawn(table: StudyTable) -> Drawing:
    with styled():
        drawing = errors_against_samples(table)
    assert drawing is not None
    return drawing


def _labels(table: StudyTable) -> list[str]:
    legend = _drawn(table).figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()]

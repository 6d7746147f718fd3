"""The interactive page in a real browser: choices, slider, map, table, colours and sizes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgray.reporting.build import read_table
from dgray.reporting.comparisons import compare
from dgray.reporting.estimate import Estimate
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from tests.reporting.devtools import Tab, browser_tab
from tests.reporting.pages import page_of
from tests.reporting.synthetic import Member, row, table_of
from tests.reporting.synthetic_axes import random_table
from tests.reporting.test_hostile_text import IN_ROWS, run_of

pytestmark = pytest.mark.browser

CHARTS = ("headline", "map", "curves", "noise", "samples", "cell-epochs", "cell-weights")
CELLS = '#map [aria-roledescription="rect mark"][aria-label]'
SELECTED = "document.querySelector('#cell-title').textContent"
TABLE = "[...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.textContent))"


@pytest.fixture(scope="module")
def tab(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(browser, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def table(overfit_run: Path) -> StudyTable:
    return read_table(overfit_run)


@pytest.fixture(scope="module")
def file(table: StudyTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(table, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(tab: Tab, file: Path) -> Iterator[Tab]:
    """The page, just opened; nothing may have gone wrong on it by the end of the test."""
    tab.open(file)
    yield tab
    assert_clean(tab, file)


def assert_clean(tab: Tab, file: Path) -> None:
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [file.as_uri()]


def cells(tab: Tab) -> list[str]:
    """What each square of the map says to a screen reader."""
    return list(
        tab.run(
            f"[...document.querySelectorAll('{CELLS}')].map((c) => c.getAttribute('aria-label'))"
        )
    )


def lines(tab: Tab) -> list[list[str]]:
    return list(tab.run(TABLE))


def header(tab: Tab) -> list[str]:
    return list(tab.run("[...table.tHead.rows[0].cells].map((c) => c.textContent.trim())"))


def column(tab: Tab, name: str) -> list[str]:
    index = header(tab).index(name)
    return [line[index] for line in lines(tab)]


def value(text: str) -> float:
    """``−0.0019 ± 0.0013`` -> -0.0019."""
    return float(text.partition(" ")[0].replace("\N{MINUS SIGN}", "-"))


def type_filter(tab: Tab, text: str) -> None:
    tab.run(
        f"(() => {{ const box = document.querySelector('#filter'); box.value = {json.dumps(text)};"
        "box.dispatchEvent(new Event('input')); })()"
    )


def choose_all(tab: Tab, index: str) -> None:
    """Choose an option of each list, one after the other."""
    for choice in tab.run("[...document.querySelectorAll('#choices select')].map((s) => s.id)"):
        tab.run(
            f"(() => {{ const s = document.getElementById({json.dumps(choice)}); if (!s) return;"
            f"s.selectedIndex = {index}; s.dispatchEvent(new Event('change')); }})()"
        )
    tab.settle()


def test_all_charts_are_drawn_with_alternative_texts(page: Tab) -> None:
    for chart in CHARTS:
        assert page.run(f"document.querySelector('#{chart} :is(svg, canvas)').clientWidth") > 100
        assert page.run(f"document.querySelector('#{chart}').getAttribute('aria-label')")
    assert len(cells(page)) == 2 * 2 * 3 * 4  # objectives, sizes of data, widths, epochs


def test_map_shows_the_values_of_the_table(page: Tab, table: StudyTable) -> None:
    models = trained(table.models)
    models = models[models["guidance_weight"] == 1]
    expected = {
        f"change of path KL {Estimate(row['path_kl_change'], row['path_kl_change_se'])} nats"
        for _, row in models.iterrows()
    }
    assert {text.partition(";")[0] for text in cells(page)} == expected


def test_significant_squares_are_outlined_and_no_others(page: Tab, table: StudyTable) -> None:
    page.choose("#choose-lens", "probability-flow ODE")
    counts = {}
    for weight in (0.25, 1, 2):
        page.choose("#choose-weight", f"{weight:g}")
        counts[weight] = page.run(
            "[...document.querySelectorAll('#map path')].filter((p) =>"
            "p.getAttribute('stroke') === 'var(--ink)' && p.getAttribute('stroke-width') === '2')"
            ".length"
        )
    expected = dict.fromkeys(counts, 0)
    for comparison in compare(table).trained:
        weight = comparison.model["guidance_weight"]
        if comparison.metric == "kl" and weight in expected:
            expected[weight] += comparison.sign != 0
    assert counts == expected
    assert 0 < min(counts.values()) < 48


def test_full_colour_is_a_change_as_large_as_the_divergence_of_the_base(
    page: Tab, table: StudyTable
) -> None:
    base = table.models.loc[table.models["objective"] == "base", "path_kl"].item()
    changes = page.run("cells.map((c) => [c.value, c.strength])")
    for change, strength in changes:
        assert strength == pytest.approx(min(abs(change) / base, 1), rel=1e-3)
    assert f"{base:.3g}" in page.run("document.querySelector('#map-scale').textContent")


def test_slider_moves_map_fields_and_samples(page: Tab) -> None:
    def state() -> list[Any]:
        page.settle()
        return [
            page.run("cells.filter((c) => c.isNow).map((c) => rows[c.row].epoch)"),
            page.run(SELECTED),
            page.run("document.querySelector('#noise svg').outerHTML"),
            page.run(
                "shownClouds().filter((c) => c.source === 'guided'"
                "&& data.objectives[data.trials[c.trial].objective].isTrained)"
                ".map((c) => c.epoch)"
            ),
            page.run("document.querySelector('#samples canvas').toDataURL()"),
        ]

    now, selected, noise, clouds, picture = state()
    assert (set(now), set(clouds)) == ({400}, {400})
    page.run("document.querySelector('#epoch').focus()")
    page.press("ArrowLeft")
    later = state()
    assert set(later[0]) == {80}
    assert "epoch 400" in selected
    assert "epoch 80" in later[1]
    assert noise != later[2]
    assert set(later[3]) <= {80}
    assert picture != later[4]
    page.press("Home")
    assert set(state()[0]) == {5}


def test_a_click_selects_a_model_and_filters_the_table(page: Tab, table: StudyTable) -> None:
    text = "KL objective, num_real 1000, width 8, epoch 80, w = 1"
    index = next(i for i, cell in enumerate(cells(page)) if cell.endswith(text))
    page.click(CELLS, index=index)
    assert page.run(SELECTED) == text
    trial = page.run("document.querySelector('#cell-facts td').textContent")
    model = table.models[table.models["trial"] == trial].iloc[0]
    assert (model["objective"], model["discriminator.width"]) == ("kl", 8)
    command = page.run("document.querySelector('#command').textContent")
    assert command == (
        f"python -m dgray.sample 'runs/a b' --trial {trial} --epoch 80 --guidance-weight 1 "
        "--num-samples 64 --out samples"
    )
    assert set(column(page, "epoch")) == {"80"}
    assert set(column(page, "model")) == {"KL objective, num_real 1000, width 8"}
    dots = page.run(
        "document.querySelectorAll('#cell-epochs [aria-roledescription=\"point\"]').length"
    )
    assert dots == 4 * (1 + 3)  # a mean and three replicates at every epoch
    page.run("document.querySelector('#only-cell').click()")
    assert len(lines(page)) == 300  # of all


def test_keys_move_the_selection_over_the_map(page: Tab) -> None:
    page.run("document.querySelector('#map').focus()")
    before = page.run(SELECTED)
    page.press("ArrowLeft")
    page.press("ArrowDown")
    after = page.run(SELECTED)
    assert before == "cross-entropy, num_real 100, width 128, epoch 400, w = 1"
    assert after == "cross-entropy, num_real 100, width 32, epoch 80, w = 1"


def test_hover_gives_value_error_replicates_and_setting(page: Tab) -> None:
    page.hover(CELLS)
    page.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    text = page.run("document.querySelector('#vg-tooltip-element').innerText")
    assert re.search(r"change of path KL\s+\S+ ± \S+ nats", text)
    assert re.search(r"replicates\s+3", text)
    assert re.search(r"setting\s+cross-entropy, num_real 100, width \d+, epoch 5, w = 1", text)
    assert re.search(r"against the base\s+(not )?significant", text)


def test_choices_change_what_is_shown(page: Tab) -> None:
    page.choose("#choose-lens", "probability-flow ODE")
    assert cells(page)[0].startswith("change of KL (ODE)")
    page.choose("#choose-metric", "KL of the probability-flow ODE")
    assert cells(page)[0].startswith("KL of the probability-flow ODE")
    page.choose("#choose-weight", "calibrated")
    assert all(cell.endswith("calibrated") for cell in cells(page))
    page.choose("#choose-objective", "KL objective")
    assert all("KL objective" in cell for cell in cells(page))
    page.choose("#choose-facet-value", "1000")
    assert len(cells(page)) == 3 * 4
    page.choose("#choose-x", "guidance weight")
    assert len(cells(page)) == 3 * 5
    page.choose("#choose-facet", "none")
    page.choose("#choose-hold-1" if page.run("!!$('#choose-hold-1')") else "#choose-hold-0", "100")
    assert all("num_real 100," in cell for cell in cells(page))
    page.choose("#choose-lens", "samples")
    page.choose("#choose-objective", "oracle")
    assert page.run(SELECTED).startswith("oracle")


@pytest.mark.long
def test_a_reload_keeps_the_choices(page: Tab, file: Path) -> None:
    page.choose("#choose-lens", "probability-flow ODE")
    page.choose("#choose-weight", "0.5")
    page.click(CELLS, index=3)
    before = [page.run(SELECTED), cells(page)]
    page.send("Page.reload")
    page.wait("performance.getEntriesByType('navigation')[0].type === 'reload'")
    page.wait("document.readyState === 'complete'")
    page.settle()
    assert [page.run(SELECTED), cells(page)] == before
    page.requests.pop()  # of the reload


@pytest.mark.long
def test_more_panels_than_fit_are_capped_with_a_note(tab: Tab, tmp_path: Path) -> None:
    members = [
        Member("kl", {"data.num_real": n, "discriminator.width": w}, epochs=(5, 20))
        for n in range(100, 1300, 100)
        for w in (4, 8)
    ]
    metrics = {"path_kl_change": 0.1, "path_kl_change_se": 0.01, "path_kl": 0.3}
    rows = [row(Member("base", {}), path_kl=0.2)]
    rows += [row(m, epoch, 1.0, **metrics) for m in members for epoch in m.epochs]
    file = page_of(table_of(rows), tmp_path / "report.html")
    tab.open(file)
    assert len(cells(tab)) == 8 * 4
    assert "The first 8 of 12 panels" in tab.run("document.querySelector('#map-note').textContent")
    tab.choose("#choose-facet-value", "1200")
    assert len(cells(tab)) == 4
    assert tab.run("document.querySelector('#map-note').textContent") == ""
    assert_clean(tab, file)


def test_page_opens_with_all_rows_unsorted(page: Tab, table: StudyTable) -> None:
    count = len(table.aggregated)
    assert page.run("document.querySelector('#count').textContent").startswith(
        f"{count} of {count}"
    )
    assert len(lines(page)) == 300  # the others on request
    page.click("#all-rows")
    assert len(lines(page)) == count
    sorted_by = page.run("[...table.tHead.rows[0].cells].map((c) => c.getAttribute('aria-sort'))")
    assert set(sorted_by) == {"none"}


def test_click_sorts_by_number_and_second_click_reverses(page: Tab) -> None:
    page.click("#all-rows")
    heading = f"#rows thead th:nth-child({header(page).index('kl_change') + 1}) button"
    page.click(heading)
    rising = list(map(value, column(page, "kl_change")))
    assert page.run("[...document.querySelectorAll('[aria-sort=\"ascending\"]')].length") == 1
    page.click(heading)
    falling = list(map(value, column(page, "kl_change")))
    assert len(set(rising)) > 100
    assert rising[0] < -0.1 < 1 < rising[-1]
    # Texts are rounded, each by its own error, so neighbours may look out of order by less.
    assert all(after - before > -0.01 for before, after in pairwise(rising))
    assert all(after - before < 0.01 for before, after in pairwise(falling))
    assert sorted(rising) == sorted(falling)


def test_missing_values_stay_last_and_calibrated_after_every_number(page: Tab) -> None:
    page.click("#all-rows")
    heading = f"#rows thead th:nth-child({header(page).index('kl_sde') + 1}) button"
    for _ in range(2):
        page.click(heading)
        texts = column(page, "kl_sde")
        present = [text for text in texts if text]
        assert 0 < len(present) < len(texts)
        assert texts[: len(present)] == present
    page.click(f"#rows thead th:nth-child({header(page).index('weight') + 1}) button")
    weights = column(page, "weight")
    assert weights == sorted(weights, key=lambda text: (text == "calibrated", text))
    assert (weights[0], weights[-1]) == ("0", "calibrated")


def test_filter_matches_values_of_columns_words_and_whole_numbers(
    page: Tab, table: StudyTable
) -> None:
    type_filter(page, "objective kl")
    assert set(column(page, "objective")) == {"kl"}
    count = 2 * 3 * 2 * 4 * 5
    assert page.run("document.querySelector('#count').textContent") == (
        f"{count} of {len(table.aggregated)} rows"
    )
    type_filter(page, "objective kl  WIDTH 128 epoch 400")
    assert len(lines(page)) == 2 * 2 * 5
    page.click(f"#rows thead th:nth-child({header(page).index('kl') + 1}) button")
    assert len(lines(page)) == 2 * 2 * 5  # sorting keeps the filter
    type_filter(page, "cross")
    assert set(column(page, "objective")) == {"cross_entropy"}
    for text in ("12", "no such row"):  # not the 12 of 128
        type_filter(page, text)
        assert lines(page) == []
    type_filter(page, "")
    assert len(lines(page)) == 300


def test_first_column_of_the_table_stays_in_view(page: Tab) -> None:
    left = "table.tBodies[0].rows[3].cells[0].getBoundingClientRect().left"
    before, other = page.run(left), page.run(left.replace("cells[0]", "cells[1]"))
    page.run("table.parentElement.scrollLeft = 400")
    assert page.run(left) == before
    assert page.run(left.replace("cells[0]", "cells[1]")) == other - 400


def test_figures_have_the_colours_of_the_page_in_dark_and_light(page: Tab, file: Path) -> None:
    ink = "getComputedStyle(document.querySelector('#map .role-title-text text')).fill"
    body = "getComputedStyle(document.body).color"
    assert page.run(ink) == page.run(body)
    dark_of_light = page.run(ink)
    page.look(1280, dark=True)
    assert page.run(ink) == page.run(body) != dark_of_light


@pytest.mark.parametrize("dark", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_phone_needs_no_horizontal_scroll(tab: Tab, file: Path, dark: bool) -> None:
    tab.open(file, width=390, height=844, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    for chart in CHARTS:
        assert (
            200
            < tab.run(f"document.querySelector('#{chart} :is(svg, canvas)').clientWidth")
            <= 390
        )
    tab.look(1280)
    tab.wait("document.querySelector('#map svg').clientWidth > 600")  # drawn for the new width
    assert_clean(tab, file)


def test_page_prints_as_a_paper_without_controls(page: Tab) -> None:
    content = base64.b64decode(page.send("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type /Page\b", content)) <= 12
    page.send("Emulation.setEmulatedMedia", media="print")
    for hidden in ("#choices", "#slider", "#table", "nav"):
        assert page.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    page.send("Emulation.setEmulatedMedia", media="")


def test_numbers_are_written_as_in_the_rest_of_the_report(page: Tab) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=300) * 10.0 ** rng.integers(-6, 5, 300)
    errors = 10.0 ** rng.uniform(-6, 4, 300)
    pairs = [[float(f"{v:.5g}"), float(f"{e:.5g}")] for v, e in zip(values, errors, strict=True)]
    pairs += [[-0.001, 0.05], [-0.0, 0.1], [0.0, 0.0], [-4e-9, 0.3]]
    texts = page.run(f"{json.dumps(pairs)}.map(([v, e]) => estimate(v, e))")
    wrong = [
        (text, str(Estimate(v, e)))
        for text, (v, e) in zip(texts, pairs, strict=True)
        if e >= 5e-7 and text != str(Estimate(v, e))
    ]
    assert len(wrong) <= 3, wrong  # halves round to even in Python, away from zero here
    assert not [text for text in texts if re.match(r"\N{MINUS SIGN}[0.]+( |$)", text)]


def test_any_text_of_a_user_is_shown_and_none_is_executed(tab: Tab, tmp_path: Path) -> None:
    table = read_table(run_of(tmp_path / "run", IN_ROWS))
    file = page_of(table, tmp_path / "report.html")
    tab.open(file)
    assert len(lines(tab)) == len(table.aggregated)
    assert tab.run("document.querySelectorAll('script').length") == 3
    choose_all(tab, "s.options.length - 1")
    assert tab.run("document.documentElement.scrollWidth") <= 1280
    assert_clean(tab, file)


def one_replicate(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["replicate"] == 0])


def one_trial(table: StudyTable) -> StudyTable:
    kept = trained(table.models)["trial"].iloc[0]
    return replace(table, rows=table.rows[table.rows["trial"].isin([kept])])


def without_base(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["objective"] != "base"])


def unfinished(table: StudyTable) -> StudyTable:
    rows = table.rows.iloc[: len(table.rows) // 2].copy()
    rows.loc[rows.index[-5:], ["status", "reason"]] = ["failed", "loss is NaN"]
    return replace(table, rows=rows)


def diverged(table: StudyTable) -> StudyTable:
    rows = table.rows.copy()
    rows.loc[rows["epoch"] == 400, ["path_kl", "path_kl_change", "kl"]] = [np.inf, np.inf, np.nan]
    return replace(table, rows=rows)


def only_base(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["objective"] == "base"])


@pytest.fixture(scope="module")
def small_table(small_run: Path) -> StudyTable:
    return read_table(small_run)


@pytest.mark.parametrize(
    "change",
    [
        one_trial,
        unfinished,
        diverged,
        pytest.param(one_replicate, marks=pytest.mark.long),
        pytest.param(without_base, marks=pytest.mark.long),
        pytest.param(only_base, marks=pytest.mark.long),
    ],
)
def test_every_kind_of_run_has_a_sound_page(
    tab: Tab, small_table: StudyTable, tmp_path: Path, change: Callable[[StudyTable], StudyTable]
) -> None:
    part = change(small_table)
    file = page_of(part, tmp_path / "report.html")
    tab.open(file)
    assert min(len(part.aggregated), 300) == len(lines(tab))
    assert tab.run("document.body.innerText.includes('undefined')") is False
    assert tab.run("document.body.innerText.includes('NaN')") is (change is unfinished)
    assert_clean(tab, file)


def test_controls_without_training_and_images(
    tab: Tab, counterexample_run: Path, tmp_path: Path
) -> None:
    table = read_table(counterexample_run)
    file = page_of(table, tmp_path / "controls.html")
    tab.open(file)
    assert len(cells(tab)) == 9
    assert_clean(tab, file)
    clouds = table.clouds.assign(
        points=[np.random.default_rng(0).integers(0, 255, (40, 3 * 8 * 8))] * len(table.clouds),
        shape=[np.array([3, 8, 8])] * len(table.clouds),
    )
    file = page_of(replace(table, clouds=clouds), tmp_path / "images.html")
    tab.open(file)
    assert tab.run("document.querySelectorAll('#samples img').length") == 3
    assert tab.run("document.querySelector('#samples img').getBoundingClientRect().width") > 250
    tab.click("#samples button")
    assert tab.run("document.querySelector('#zoom').open")
    assert tab.run("document.querySelector('#zoom img').getBoundingClientRect().width") > 500
    assert_clean(tab, file)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (4, 9))]
)
def test_studies_of_many_axes(tab: Tab, tmp_path: Path, seed: int) -> None:
    table = random_table(seed)
    for shown in (table, replace(table, selected=frozenset())):  # the second as of a search
        file = page_of(table, tmp_path / "report.html", shown=shown)
        tab.open(file)
        for choice in tab.run(
            "[...document.querySelectorAll('#choices select')].map((s) => s.id)"
        ):
            tab.run(
                f"(() => {{ const s = document.getElementById({json.dumps(choice)});"
                "if (!s) return; s.selectedIndex = 1; s.dispatchEvent(new Event('change')); })()"
            )
        tab.settle()
        looks = tab.run("data.headline ? data.headline.colours : []")
        assert len(looks) == len(set(looks))
        keys = tab.run("cells.map((c) => [c.panel, c.x, c.y].join('|'))")
        if shown is table:
            assert len(keys) == len(set(keys))  # one trial a square
        assert_clean(tab, file)


def test_samples_beyond_the_budget_are_left_out_and_said(
    tab: Tab, small_table: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgray.reporting.explorer.samples._BUDGET", 4_000)
    file = page_of(small_table, tmp_path / "report.html")
    tab.open(file)
    note = tab.run("document.querySelector('#samples-note').textContent")
    assert re.search(r"\d+ sets of samples are not on this page", note)
    assert_clean(tab, file)

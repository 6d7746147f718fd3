"""Charts of the page: choices, slider, selection, colours and sizes."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgray.reporting.comparisons import compare
from dgray.reporting.estimate import Estimate
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from tests.reporting.devtools import Tab
from tests.reporting.pages import (
    CELLS,
    assert_clean,
    cells,
    column,
    lines,
    page_of,
)
from tests.reporting.synthetic import Member, row, table_of

pytestmark = pytest.mark.browser

CHARTS = ("headline", "map", "curves", "noise", "samples", "cell-epochs", "cell-weights")
SELECTED = "document.querySelector('#cell-title').textContent"


def test_all_charts_are_drawn_with_alternative_texts(unchanged_page: Tab) -> None:
    for chart in CHARTS:
        assert (
            unchanged_page.run(f"document.querySelector('#{chart} :is(svg, canvas)').clientWidth")
            > 100
        )
        assert unchanged_page.run(f"document.querySelector('#{chart}').getAttribute('aria-label')")
    assert len(cells(unchanged_page)) == 2 * 2 * 3 * 4  # objectives, sizes of data, widths, epochs


def test_map_shows_the_values_of_the_table(unchanged_page: Tab, table: StudyTable) -> None:
    models = trained(table.models)
    models = models[models["guidance_weight"] == 1]
    expected = {
        f"change of path KL {Estimate(row['path_kl_change'], row['path_kl_change_se'])} nats"
        for _, row in models.iterrows()
    }
    assert {text.partition(";")[0] for text in cells(unchanged_page)} == expected


def test_full_colour_is_a_change_as_large_as_the_divergence_of_the_base(
    unchanged_page: Tab, table: StudyTable
) -> None:
    base = table.models.loc[table.models["objective"] == "base", "path_kl"].item()
    changes = unchanged_page.run("cells.map((c) => [c.value, c.strength])")
    for change, strength in changes:
        assert strength == pytest.approx(min(abs(change) / base, 1), rel=1e-3)
    assert f"{base:.3g}" in unchanged_page.run("document.querySelector('#map-scale').textContent")


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.1, 0.2, 0.3, 20.0], [0, 1, 10]),
        ([-0.1, 0.2, 0.3, 1e6], [0, 1, 1e2, 1e4, 1e6]),
        ([0.1, 0.2, -0.3, -2e3], [-1e3, -1e2, -10, -1, 0]),
        ([1e-3, 2e-3, None, 3e-3, 5.0, -0.2], [-0.1, -0.01, 0, 0.01, 0.1, 1]),
        ([1.0, 2.0, 3.0, 1e57], [0, 1e12, 1e27, 1e42, 1e57]),
    ],
)
def test_axes_of_values_that_diverged_have_powers_of_ten(
    unchanged_page: Tab, values: list[float | None], ticks: list[float]
) -> None:
    drawn = unchanged_page.run(f"yScale({json.dumps(values)}, '').axis.values")
    assert sorted(drawn) == pytest.approx(ticks)


def test_numbers_are_written_as_in_the_rest_of_the_report(unchanged_page: Tab) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=300) * 10.0 ** rng.integers(-6, 5, 300)
    errors = 10.0 ** rng.uniform(-6, 4, 300)
    pairs = [[float(f"{v:.5g}"), float(f"{e:.5g}")] for v, e in zip(values, errors, strict=True)]
    pairs += [[-0.001, 0.05], [-0.0, 0.1], [0.0, 0.0], [-4e-9, 0.3]]
    texts = unchanged_page.run(f"{json.dumps(pairs)}.map(([v, e]) => estimate(v, e))")
    wrong = [
        (text, str(Estimate(v, e)))
        for text, (v, e) in zip(texts, pairs, strict=True)
        if e >= 5e-7 and text != str(Estimate(v, e))
    ]
    assert len(wrong) <= 3, wrong  # halves round to even in Python, away from zero here
    assert not [text for text in texts if re.match(r"\N{MINUS SIGN}[0.]+( |$)", text)]


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
        f"dgray sample 'runs/a b' --trial {trial} --epoch 80 --guidance-weight 1 "
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

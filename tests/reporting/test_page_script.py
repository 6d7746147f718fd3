"""Sorting and filtering the table of the page, in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

from dgray.reporting.build import read_table
from dgray.reporting.page import Source, report_page
from dgray.reporting.text.finding import find

pytestmark = pytest.mark.browser

# What a reader does, and what is then on the screen; every step starts from where the last ended.
STEPS = """
const shot = () => ({
  rows: [...body.rows].filter((row) => row.checkVisibility())
    .map((row) => [...row.cells].map((cell) => cell.textContent)),
  sorted: headings.map((heading) => heading.getAttribute("aria-sort")),
  count: document.querySelector("#count").textContent,
});
const click = (name) => headings.find((heading) => heading.textContent.trim() === name)
  .querySelector("button").click();
const type = (text) => {
  const box = document.querySelector("#filter");
  box.value = text;
  box.dispatchEvent(new Event("input"));
};
const steps = {
  opened: () => {},
  change_up: () => click("kl_change"),
  change_down: () => click("kl_change"),
  sde_up: () => click("kl_sde"),
  sde_down: () => click("kl_sde"),
  objective_up: () => click("objective"),
  weight_up: () => click("weight"),
  objective_kl: () => type("objective kl"),
  kl_wide_late: () => type("objective kl  WIDTH 128 epoch 400"),
  sorted_while_filtered: () => click("kl"),
  word: () => type("cross"),
  number: () => type("12"),
  nothing: () => type("no such row"),
  cleared: () => type(""),
};
const shots = {};
for (const [name, step] of Object.entries(steps)) { step(); shots[name] = shot(); }
const result = document.createElement("pre");
result.id = "shots";
result.textContent = JSON.stringify({header: headings.map((h) => h.textContent.trim()), shots});
document.body.append(result);
"""


@dataclass(frozen=True)
class Screen:
    """The table after one step."""

    header: list[str]
    rows: list[list[str]]
    sorted: list[str]
    count: str

    def column(self, name: str) -> list[str]:
        return [row[self.header.index(name)] for row in self.rows]

    def order(self, name: str) -> str:
        return self.sorted[self.header.index(name)]


Screens = Callable[[str], Screen]


@pytest.fixture(scope="module")
def screens(browser: str, overfit_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Screens:
    folder = tmp_path_factory.mktemp("page")
    table = read_table(overfit_run)
    source = Source(name="overfit", description="", lock="", provenance={})
    page = report_page(table, find(table), [], source)
    file = folder / "report.html"
    file.write_text(page.replace("</body>", f"<script>{STEPS}</script></body>"), "utf-8")
    match = re.search(r'<pre id="shots">(.*?)</pre>', dom_of(browser, file, folder), re.DOTALL)
    assert match, "the script of the page or of this test ended with an error"
    result = json.loads(unescape(match[1]))
    return lambda step: Screen(header=result["header"], **result["shots"][step])


def dom_of(browser: str, page: Path, folder: Path) -> str:
    """The document after its scripts have run."""
    options = [
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # containers have little
        "--no-first-run",
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium refuses to sandbox root
    done = subprocess.run(
        [browser, *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def value(text: str) -> float:
    """``−0.0019 ± 0.0013`` -> -0.0019."""
    return float(text.partition(" ")[0].replace("\N{MINUS SIGN}", "-"))


def test_page_opens_with_all_rows_unsorted(screens: Screens) -> None:
    opened = screens("opened")
    assert len(opened.rows) == 2 * (1 + 2 * 5 + 2 * 3 * 2 * 4 * 5)
    assert opened.count == f"{len(opened.rows)} of {len(opened.rows)} rows"
    assert set(opened.sorted) == {"none"}


def test_click_sorts_by_number_and_second_click_reverses(screens: Screens) -> None:
    up, down = screens("change_up"), screens("change_down")
    rising, falling = (list(map(value, screen.column("kl_change"))) for screen in (up, down))
    assert len(set(rising)) > 100
    assert rising[0] < -0.1 < 1 < rising[-1]
    # Texts are rounded, each by its own error, so neighbours may look out of order by less.
    assert all(after - before > -0.01 for before, after in pairwise(rising))
    assert all(after - before < 0.01 for before, after in pairwise(falling))
    assert sorted(rising) == sorted(falling)
    assert (up.order("kl_change"), down.order("kl_change")) == ("ascending", "descending")
    assert (up.sorted + down.sorted).count("none") == 2 * len(up.header) - 2


@pytest.mark.parametrize("step", ["sde_up", "sde_down"])
def test_missing_values_stay_last(screens: Screens, step: str) -> None:
    column = screens(step).column("kl_sde")
    present = [text for text in column if text]
    assert 0 < len(present) < len(column)
    assert column[: len(present)] == present


def test_text_sorts_as_text_and_calibrated_after_every_number(screens: Screens) -> None:
    objectives = screens("objective_up").column("objective")
    assert objectives == sorted(objectives)
    weights = screens("weight_up").column("weight")
    assert weights == sorted(weights, key=lambda text: (text == "calibrated", text))
    assert weights[0] == "0"
    assert weights[-1] == "calibrated"


def test_column_filter_matches_whole_values(screens: Screens) -> None:
    shown = screens("objective_kl")
    assert set(shown.column("objective")) == {"kl"}
    assert shown.count == f"{2 * 3 * 2 * 4 * 5} of {len(screens('opened').rows)} rows"
    narrow = screens("kl_wide_late")
    assert set(narrow.column("width")) == {"128"}
    assert set(narrow.column("epoch")) == {"400"}
    assert len(narrow.rows) == 2 * 2 * 5


def test_sorting_keeps_the_filter(screens: Screens) -> None:
    shown = screens("sorted_while_filtered")
    assert shown.order("kl") == "ascending"
    assert sorted(shown.rows) == sorted(screens("kl_wide_late").rows)


def test_filter_matches_parts_of_words_but_whole_numbers(screens: Screens) -> None:
    assert set(screens("word").column("objective")) == {"cross_entropy"}
    assert screens("number").rows == []  # not the 12 of 128
    assert screens("nothing").rows == []
    assert screens("nothing").count.startswith("0 of ")
    assert len(screens("cleared").rows) == len(screens("opened").rows)

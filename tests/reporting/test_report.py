"""The report of a run folder: a self-contained page, reproducible files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dgray.cli.report import main
from dgray.record.row import CheckpointResult, column_names
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import build_report, read_table
from tests.reporting.synthetic import Member, row

POLICY = (
    r"default-src 'none'; script-src 'sha256-(\S+)' 'sha256-(\S+)'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)
VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Checks that tags close in order; collects ids, references and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.attributes.append((tag, named))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.references += [
            value for name, value in attrs if name in ("href", "src", "xlink:href") and value
        ]


@pytest.fixture(scope="module")
def run(counterexample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(counterexample_run, folder)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text("utf-8")


def own_part(page: str) -> str:
    """The page without the plotting library."""
    return re.sub(r"<script>\(\(\) => .*?</script>", "", page, flags=re.DOTALL)


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    parsed = Page(page)
    outside = [r for r in parsed.references if not r.startswith(("#", "data:"))]
    assert outside == []
    assert re.findall(r"https?://|url\((?!#|\"?data:)|@import|fetch\(", own_part(page)) == []


def test_policy_allows_the_two_scripts_of_the_page_and_no_network(page: str) -> None:
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0]
    hashes = re.fullmatch(POLICY, policy)
    assert hashes
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts] == [
        *hashes.groups()
    ]


def test_page_is_well_formed_with_unique_ids(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    inside = {r[1:] for r in parsed.references if r.startswith("#")}
    assert inside <= set(parsed.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", own_part(page))) <= set(parsed.ids)


def test_page_quotes_description_lock_and_provenance_escaped(page: str) -> None:
    assert "Where does cross-entropy overfitting raise the KL divergence?" in page
    assert "name: overfit" in page
    assert "study &lt;x&gt; &amp; y" in page


def test_data_of_the_page_are_those_of_the_table(page: str, run: Path) -> None:
    text = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0]
    data = json.loads(text)
    rows = read_table(run).aggregated
    assert len(data["rows"]["trial"]) == len(rows) == 22  # 11 trials, two samplers each
    for metric in data["metrics"]:
        values = [np.nan if v is None else v for v in metric["value"]]
        np.testing.assert_allclose(values, rows[metric["name"]].astype(float), rtol=1e-4)
        errors = [np.nan if v is None else v for v in metric["error"]]
        np.testing.assert_allclose(errors, rows[f"{metric['name']}_se"], rtol=1e-4)
    assert [data["trials"][i]["id"] for i in data["rows"]["trial"]] == list(rows["trial"])


def test_report_parquet_holds_rows_axes_and_the_meaning_of_columns(run: Path) -> None:
    table = pq.read_table(run / "report.parquet")
    names = column_names("identity", "metric", "provenance")
    assert set(names) <= set(table.column_names)
    assert table.column_names[-2:] == ["fit.oscillation.amplitude", "fit.oscillation.frequency"]
    assert table.schema.field("kl").metadata[b"unit"] == b"nats"
    assert table.num_rows == len(RunFolder(run).rows())


def test_every_figure_is_saved_in_three_formats(run: Path) -> None:
    files = {path.name for path in (run / "figures").iterdir()}
    assert files == {
        f"{name}.{ending}"
        for name in ("control_lenses", "clouds")
        for ending in ("svg", "pdf", "png")
    }


def test_command_rebuilds_the_same_files_and_prints_the_finding(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[str, str]:
        return {
            str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in run.rglob("*")
            if path.is_file() and "tensorboard" not in path.parts
        }

    before, events = state(), len(list((run / "tensorboard").rglob("events*")))
    (run / "figures" / "finding.png").write_bytes(b"of an earlier report")
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "The unguided base differs from the data by" in printed
    assert str(run / "report.html") in printed
    assert state() == before
    assert len(list((run / "tensorboard").rglob("events*"))) == events
    assert [path.name for path in run.glob(".*")] == []


def test_failed_trials_are_listed_with_their_reason(tmp_path: Path) -> None:
    base, member = Member("base", {}), Member("kl", {"discriminator.width": 8})
    for trial, epoch, rows in (
        (base, 0, row(base, kl=0.5, kl_se=0.1)),
        (member, 5, row(member, 5, 1.0, status="failed", reason="loss is NaN at <epoch> 3")),
    ):
        RunFolder(tmp_path).write_result(
            CheckpointResult(
                trial=trial.id, epoch=epoch, rows=(rows,), clouds=(), losses=(), state=None
            )
        )
    text = build_report(tmp_path).page.read_text("utf-8")
    assert "loss is NaN at &lt;epoch&gt; 3" in text
    assert "1 trial failed" in text


@pytest.mark.parametrize("mark", [None, "rows", "run.json"])
def test_folder_without_rows_is_refused_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mark: str | None
) -> None:
    if mark is not None:
        (tmp_path / mark).mkdir()
    assert main([str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert ("there are no rows yet" if mark else "a run folder has at least one of") in message


def test_report_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, dgray.report, dgray.reporting.tensorboard.writer;"
        "print([m for m in ('torch', 'ray', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Any text of a user may appear in figures, on the page, in file names and in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dgray.cli.report import main
from dgray.record.row import CheckpointResult, Row
from dgray.reporting.figures.files import Origin, pictures
from dgray.reporting.figures.kinds import SEARCH_KINDS
from dgray.reporting.figures.style import styled
from dgray.reporting.legible import encodable, printable, shortened, shortened_bytes
from dgray.reporting.searches import Range, choice_text
from dgray.reporting.tensorboard.writer import run_name
from tests.reporting.synthetic import Member, row, table_of, write_run
from tests.reporting.synthetic_search import RANGES, WIDTH, point, search_of
from tests.reporting.test_report import Page

HOSTILE = {
    "mathematics": r"cost $5 and $\frac{1}{0}$ $",
    "one dollar": "a$b",
    "braces": r"{x} %s %(y)s \alpha^{2}_",
    "html": "<script>alert(1)</script>&amp;\"'<!-- --!> ]]>",
    "newlines": "first\nsecond\r\nthird\u2028fourth",
    "controls": "bell\x07 escape \x1b[31mred nul\x00 del\x7f",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202egnp.exe \u0645\u0631\u062d\u0628\u0627",
    "emoji": "\U0001f469\u200d\U0001f52c \U0001f600 \u4e2d\u6587",
    "long word": "x" * 400,
    "long text": "many words " * 60,
    "long bytes": "\u00e9\u4e2d" * 150,
    "path": "../../etc/passwd",
    "device": "CON: a*b?|c.",
    "underscore": "_hidden",
    "empty": "",
    "blank": "  ",
    "number": "1e-3",
    "surrogate": "half \ud83d",
}
TEXTS = [*HOSTILE.values(), "x" * 399 + "y"]


def members(texts: list[str]) -> list[Member]:
    """A trial per text, on an axis of 19 texts and one of three."""
    return [
        Member("kl", {"fit.objective": "kl", "data.path": texts[index % 3], "fit.name": text})
        for index, text in enumerate(texts)
    ]


def run_of(folder: Path, texts: list[str]) -> Path:
    """A run whose trials differ in these texts only."""
    results = [(Member("base", {}), 0, (0.0,))]
    results += [(member, epoch, (0.5, 1.0)) for member in members(texts) for epoch in (5, 20)]
    values = {"path_kl": 0.4, "path_kl_se": 0.1, "path_kl_change": -0.1, "fd": 3.0, "fd_se": 0.1}
    losses = {"loss_train": 0.5, "loss_held_out": 0.6}
    bins = {"sigma_edges": [0.1, 1.0, 10.0], "score_error_bins": [0.1, 0.2]}
    return write_run(
        folder,
        (
            CheckpointResult(
                trial=member.id,
                epoch=epoch,
                rows=tuple(row(member, epoch, w, **values, **losses, **bins) for w in weights),
                clouds=(),
                losses=(),
                state=None,
            )
            for member, epoch, weights in results
        ),
    )


IN_ROWS = [encodable(text) for text in TEXTS]  # rows are UTF-8


def test_a_report_shows_every_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(tmp_path / "run", IN_ROWS)
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "could not be" not in printed
    assert not [c for c in printed if not (c.isprintable() or c in "\n ")]
    page = (folder / "report.html").read_text("utf-8")
    assert Page(page).open == []
    assert "<script>alert" not in page
    runs = [path.name for path in (folder / "tensorboard").iterdir() if path.is_dir()]
    assert len(runs) == 1 + len(IN_ROWS)
    assert all(len(name.encode()) <= 255 for name in runs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    for path in (folder / "figures").glob("*.svg"):
        ElementTree.parse(path)
        assert "mathdefault" not in path.read_text("utf-8")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_searches_show_every_text(text: str) -> None:
    text = str(choice_text(text))  # as they are read
    choices = {"fit.choice": Range("choice", choices=(text, "other"))}
    points = [
        point(
            number, 0.1 * number, **{"fit.choice": (text, "other")[number % 2], WIDTH: 4 + number}
        )
        for number in range(14)
    ]
    search = search_of(points, label=f"kl, name {text}", ranges={**RANGES, **choices})
    for kind in SEARCH_KINDS:
        with styled():
            drawing = kind.draw((search,))
            if drawing is not None:
                shown = pictures(drawing, kind.name, Origin(text), ["svg"])
                ElementTree.parse(io.BytesIO(shown["svg"]))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_printable_text_is_visible_and_encodes(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() for c in shown)
    assert len(shown.encode("utf-8")) >= len(text)
    assert printable(shown) == shown


def test_half_characters_are_escaped_when_they_are_read() -> None:
    axes = {"fit.objective": "kl", "fit.name": HOSTILE["surrogate"]}
    first = row(Member("kl", {}), kl=0.4)
    table = table_of([Row.from_columns({**first.columns(), "axes": json.dumps(axes)})])
    assert table.rows["fit.name"].tolist() == ["half \\ud83d"]


def test_shortened_texts_stay_different() -> None:
    long = ["x" * 400, "x" * 399 + "y", "x" * 200 + "y" + "x" * 199]
    for limit in (20, 60, 255):
        assert len({shortened(text, limit) for text in long}) == 3
        assert all(len(shortened(text, limit)) <= limit for text in long)
        assert all(len(shortened_bytes("\u4e2d" * 300, limit).encode()) <= limit for _ in long)
    assert shortened("short", 20) == "short"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_names_of_event_folders_are_names(tmp_path: Path, text: str) -> None:
    for name in (run_name("kl-0a1b2c3d", text), run_name(text, "kl")):
        (tmp_path / name).mkdir()
        assert (tmp_path / name).parent == tmp_path
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()

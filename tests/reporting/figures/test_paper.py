"""Figures for papers: width, fonts, metadata, conditions, and numbers beside the picture."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pypdf import PdfReader

from dgray.cli.main import main
from dgray.errors import FigureError
from dgray.reporting.build import read_table
from dgray.reporting.figures.files import Origin, origin
from dgray.reporting.figures.latex import latex, latex_table
from dgray.reporting.figures.request import FigureRequest
from dgray.reporting.figures.style import style_of
from dgray.reporting.table import StudyTable
from dgray.reporting.where import select
from tests.reporting.synthetic import Member, row, table_of

ORIGIN = Origin("overfit", ("8deb5aa", "1c2d3e+"))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def table(small_run: Path) -> StudyTable:
    return read_table(small_run)


@pytest.fixture(scope="module")
def finding(table: StudyTable) -> dict[str, bytes]:
    request = FigureRequest("finding", style_of("3.25in", "DejaVu Serif"))
    return request.files(table, (), ORIGIN)


def test_pdf_has_the_width_truetype_fonts_real_text_and_its_origin(
    finding: dict[str, bytes],
) -> None:
    reader = PdfReader(io.BytesIO(finding["finding.pdf"]))
    (page,) = reader.pages
    assert float(page.mediabox.width) == pytest.approx(3.25 * 72)
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    inner = [font["/DescendantFonts"][0].get_object() for font in fonts]
    assert {font["/Subtype"] for font in (*fonts, *inner)} == {"/Type0", "/CIDFontType2"}
    assert all(font["/BaseFont"].endswith("+DejaVuSerif") for font in fonts)
    assert all("/FontFile2" in font["/FontDescriptor"].get_object() for font in inner)
    assert "cross-entropy, w = 1" in page.extract_text()
    assert reader.metadata is not None
    assert reader.metadata["/Keywords"].startswith("run overfit, dgray ")
    assert reader.metadata["/Keywords"].endswith("commit 8deb5aa, 1c2d3e+")


def test_svg_and_png_have_real_text_or_size_and_their_origin(finding: dict[str, bytes]) -> None:
    tree = ElementTree.fromstring(finding["finding.svg"].decode())
    assert tree.get("width") == "234pt"
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    assert "cross-entropy, w = 1" in texts
    assert b"commit 8deb5aa, 1c2d3e+" in finding["finding.svg"]
    with Image.open(io.BytesIO(finding["finding.png"])) as image:
        assert image.width == round(3.25 * 300)
        assert "run overfit" in image.info["Source"]


def test_csv_holds_the_drawn_numbers(table: StudyTable, finding: dict[str, bytes]) -> None:
    data = pd.read_csv(io.BytesIO(finding["finding.csv"]), dtype={"weight": str})
    rows = table.rows
    for _, line in data.iterrows():
        chosen = rows[(rows["objective"] == line["objective"]) & (rows["epoch"] == line["epoch"])]
        if not np.isnan(line["width"]):
            chosen = chosen[chosen["discriminator.width"] == line["width"]]
        is_tuned = line["weight"] == "calibrated"
        chosen = chosen[chosen["is_calibrated"] == is_tuned]
        if not is_tuned:
            chosen = chosen[chosen["guidance_weight"] == float(line["weight"])]
        chosen = chosen.drop_duplicates("replicate")
        assert line["replicates"] == len(chosen)
        assert line["path_kl"] == pytest.approx(chosen["path_kl"].mean(), rel=1e-12)
        error = chosen["path_kl_se"].pow(2).mean()
        if len(chosen) > 1:
            error += chosen["path_kl"].var(ddof=1) / len(chosen)
        assert line["path_kl_se"] == pytest.approx(error**0.5, rel=1e-9)
    assert {"base", "cross_entropy", "kl"} <= set(data["objective"])
    assert set(data["weight"]) >= {"0", "1", "calibrated"}


def test_latex_table_has_a_line_for_each_of_the_csv(finding: dict[str, bytes]) -> None:
    text = finding["finding.tex"].decode()
    lines = finding["finding.csv"].decode().splitlines()
    body = text.partition("\\midrule")[2].partition("\\bottomrule")[0]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    assert body.count("\\\\") == len(lines) - 1
    for line in body.strip().splitlines():
        assert line.count(" & ") == len(columns[1]) - 1
    assert text.startswith("% Figure finding of run overfit, dgray ")
    assert "KL of the probability-flow ODE (nats)" in text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (
            "50% of $x_1$ & #2 {a} ~^\\",
            r"50\% of \$x\_1\$ \& \#2 \{a\} "
            r"\textasciitilde{}\textasciicircum{}\textbackslash{}",
        ),
        ("a--b", "a-{}-b"),
        ("é ±1 σ", r"é \ensuremath{\pm}1 \ensuremath{\sigma}"),
        ("中", r"\texttt{\textbackslash{}u4e2d}"),
        ("a\nb", r"a\textbackslash{}nb"),
    ],
)
def test_latex_prints_user_text_as_it_is(text: str, printed: str) -> None:
    assert latex(text) == printed


def test_long_tables_are_broken_over_pages_and_same_values_are_stated_once() -> None:
    data = pd.DataFrame({"name": "a_b", "number": range(50), "value": 0.5, "value_se": 0.01})
    text = latex_table(data, {}, "Caption", "tab:x", "origin")
    assert "\\begin{longtable}{rr}" in text
    assert text.count("\\toprule") == 2
    assert "The same in all lines: name a\\_b." in text
    assert text.count("0.500 \\ensuremath{\\pm} 0.010 \\\\") == 50


def test_conditions_select_rows_and_keep_the_base(table: StudyTable) -> None:
    for text in ("width=8", "discriminator.width=8", "width<128", "width!=128", "width=8|9"):
        rows = select(table, text).rows
        assert set(rows["discriminator.width"].dropna()) == {8}, text
        assert "base" in set(rows["objective"])
    rows = select(table, ["objective=kl, weight=calibrated", "epoch>=100"]).rows
    assert set(rows["objective"]) == {"base", "kl"}
    assert rows[rows["objective"] == "kl"]["is_calibrated"].all()
    assert rows[rows["objective"] == "kl"]["epoch"].min() >= 100
    assert select(table, ()).rows.equals(table.rows)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("widht=8", r"no field 'widht' \(did you mean width\?\)"),
        ("width=9", "no row meets this; the values are 8, 128"),
        ("width", "a condition must be NAME=VALUE"),
        ("width<a", "< needs one number"),
    ],
)
def test_conditions_that_select_nothing_are_refused(
    table: StudyTable, condition: str, message: str
) -> None:
    with pytest.raises(FigureError, match=message):
        select(table, condition)


def test_a_label_with_a_comma_is_one_value() -> None:
    members = [Member("kl", {"fit.objective": "kl", "a.name": name}) for name in ("x, y", "z")]
    rows = [row(member, 5, 1.0, kl=0.5) for member in members]
    assert select(table_of(rows), "name=x, y").rows["a.name"].tolist() == ["x, y"]


@pytest.mark.parametrize(
    ("width", "inches"), [("3.25in", 3.25), ("8.255cm", 3.25), ("82.55mm", 3.25), (3.25, 3.25)]
)
def test_lengths(width: str | float, inches: float) -> None:
    assert style_of(width).width == pytest.approx(inches)
    assert style_of("234.8775pt").width == pytest.approx(3.25)


@pytest.mark.parametrize("width", ["3.25", "0in", "90in", "3 furlongs", "-1in", "nan"])
def test_widths_out_of_range_are_refused(width: str) -> None:
    if width == "3.25":
        assert style_of(width).width == 3.25
        return
    with pytest.raises(FigureError, match="the width must be"):
        style_of(width)


def test_fonts_by_name_and_by_file() -> None:
    assert style_of(font="dejavu serif").family == "DejaVu Serif"
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert style_of(font=str(folder / "STIXGeneral.ttf")).family == "STIXGeneral"
    with pytest.raises(FigureError, match="similar ones are DejaVu Sans"):
        style_of(font="DejaVu San")
    with pytest.raises(FigureError, match="there is no such font file"):
        style_of(font="/nowhere/a.ttf")


def test_fonts_with_postscript_outlines_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.otf").write_bytes(b"OTTO" + bytes(20))
    with pytest.raises(FigureError, match="PostScript outlines"):
        style_of(font=str(tmp_path / "a.otf"))


def test_origin_names_every_version_once() -> None:
    git = [{"commit": "a", "is_dirty": False}, {"commit": "b", "is_dirty": True}]
    sessions = [{"git": git[0]}, {"git": git[0]}, {"git": None}, {"git": git[1]}, "damaged"]
    assert origin("run", {"sessions": sessions}).commits == ("a", "b+")
    assert "commit unknown" in str(origin("run", {}))


def test_command_writes_the_files_and_lists_the_names(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--width", "82mm", "--where", "width=8", "--format", "pdf", "--out", str(tmp_path)]
    assert main(["figure", str(small_run), "losses", *options]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "losses.csv",
        "losses.pdf",
        "losses.tex",
    ]
    assert set(pd.read_csv(tmp_path / "losses.csv")["width"]) == {8}
    assert main(["figure", str(small_run)]) == 0
    assert "losses" in capsys.readouterr().out
    assert main(["figure", str(small_run), "lossses"]) == 2
    assert "(did you mean losses?); there are finding, " in capsys.readouterr().err


def test_axes_of_lists_and_text_can_be_conditions() -> None:
    axes = [{"fit.objective": "kl", "a.list": value} for value in ([1, 2], [3])]
    rows = [row(Member("kl", axis), 5, 1.0, kl=0.5) for axis in axes]
    table = table_of(rows)
    assert select(table, f"list={json.dumps([1, 2])}").rows["a.list"].tolist() == ["[1, 2]"]

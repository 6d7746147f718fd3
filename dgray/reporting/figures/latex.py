"""Numbers as a LaTeX table in the style of the package ``booktabs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dgray.reporting.estimate import Estimate, minus
from dgray.reporting.legible import escaped, printable
from dgray.reporting.selection import number

LONGEST = 40  # lines of a table that fits on one page
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "²": r"\ensuremath{^2}",
    "σ": r"\ensuremath{\sigma}",
    "…": r"\ldots{}",
    "\N{EN DASH}": r"\textendash{}",
}
# Letters beyond ASCII that every LaTeX since 2018 prints with its standard fonts.
_LETTERS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŁłŒœŠšŽž"


def latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is; characters that it lacks become ``\u4e2d``."""
    return "".join(map(_printed, printable(text))).replace("--", "-{}-")  # no ligatures


def _printed(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() or character in _LETTERS:
        return character
    return r"\texttt{" + escaped(character).replace("\\", r"\textbackslash{}") + "}"


def latex_table(
    data: pd.DataFrame,
    heads: Mapping[str, tuple[str, str]],
    caption: str,
    label: str,
    comment: str,
) -> str:
    r"""Return a table with one line per row; ``{column}_se`` is joined to its column.

    Columns that have one value are left out of the table and stated below it, and tables longer
    than a page use ``longtable``.

    Args:
        data: numbers and the settings that identify them.
        heads: title and unit of columns; others are named as in ``data``.
        caption: text of the caption.
        label: argument of ``\label``.
        comment: first line of the file.
    """
    shown, same = _columns(data, heads)
    names = [_head(name, *heads.get(name, (name, ""))) for name in shown]
    aligned = "".join("r" if pd.api.types.is_numeric_dtype(data[name]) else "l" for name in shown)
    lines = [" & ".join(cells) + r" \\" for cells in _cells(data, shown)]
    same = [text for text in same if text not in caption]  # as in "Held fixed: width 64."
    fixed = f" The same in all lines: {', '.join(same)}." if same else ""
    note = rf"\caption{{{latex(caption + fixed)}}}"
    head = [r"\toprule", " & ".join(names) + r" \\", r"\midrule"]
    if len(lines) > LONGEST:
        package = ["longtable"]
        body = [
            rf"\begin{{longtable}}{{{aligned}}}",
            rf"{note} \label{{{label}}} \\",
            *head,
            r"\endfirsthead",
            *head,
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *lines,
            r"\end{longtable}",
        ]
    else:
        package = []
        body = [
            r"\begin{table}",
            r"\centering",
            note,
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{aligned}}}",
            *head,
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    packages = ", ".join(["booktabs", "textcomp", *package])
    return "\n".join([f"% {comment}", f"% \\usepackage{{{packages}}}", *body, ""])


def _columns(
    data: pd.DataFrame, heads: Mapping[str, tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """Return the columns of the table, and settings that are the same in all lines as text."""
    values = [name for name in data if not (name.endswith("_se") and name[:-3] in data)]
    shown, same = [], []
    for name in values:
        has_error = f"{name}_se" in data
        present = data[name].dropna().unique()
        if name in heads or has_error or len(data) < 2 or len(present) != 1:
            shown.append(name)
        else:
            same.append(f"{name} {number(present[0])}")
    return shown, same


def _head(name: str, title: str, unit: str) -> str:
    text = title if title != name else name.replace("_", " ")
    return latex(f"{text} ({unit})" if unit else text)


def _cells(data: pd.DataFrame, shown: list[str]) -> Iterator[list[str]]:
    for _, row in data.iterrows():
        yield [_cell(row[name], row.get(f"{name}_se", np.nan)) for name in shown]


def _cell(value: Any, error: float) -> str:
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        is_whole = pd.isna(error) and float(value).is_integer()
        text = number(value) if is_whole else str(Estimate(float(value), float(error)))
        return latex(minus(text))
    return latex(str(value))

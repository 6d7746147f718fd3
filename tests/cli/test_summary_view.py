"""The summary of a study fits the terminal and is complete."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dgray.cli.summary_view import render_summary
from dgray.reporting.estimate import Estimate
from dgray.reporting.text.summary import SummaryRow
from tests.reporting.synthetic import Member, row, table_of

NAMES = {
    "base (unguided)": "",
    "best cross-entropy": "num_real 300, width 32, epoch 3200, calibrated",
    "best KL objective": "num_real 100, width 128, learning_rate 0.002, epoch 3200, w = 0.25",
    "worst cross-entropy": "num_real 100, width 128, epoch 3200, w = 1",
    "oracle (exact log-ratio)": "w = 1",
}
COLUMNS = table_of([row(Member("base", {}))]).summary_columns
PATH_KL = ("0.2017 ± 0.0037", "0.1282 ± 0.0040", "0.0904 ± 0.0034", "1.04 ± 0.17", "12.0 ± 1.5")


def rows(has_sde: bool = True) -> list[SummaryRow]:
    values = (Estimate(0.2017, 0.0037), Estimate(0.1282, 0.0040), Estimate(0.0904, 0.0034))
    values += (Estimate(1.04, 0.17), Estimate(12.04, 1.5))
    return [
        SummaryRow(
            name=name,
            setting=setting,
            objective="kl",
            estimates={
                "path_kl": value,
                "path_kl_change": Estimate(-0.20164, 0.00372),
                "kl": Estimate(-0.00194, 0.00128),
                **({"kl_sde": Estimate(-0.011, 0.032)} if has_sde else {}),
            },
        )
        for (name, setting), value in zip(NAMES.items(), values, strict=True)
    ]


def printed(width: int, lines: list[SummaryRow]) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(render_summary(lines, COLUMNS, console.width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_names_and_values_are_not_wrapped(width: int) -> None:
    lines = printed(width, rows())
    assert max(map(len, lines)) <= width
    for name, value in zip(NAMES, PATH_KL, strict=True):
        (line,) = [line for line in lines if line.startswith(name)]
        assert value in line
        assert "−0.0019 ± 0.0013" in line
        assert "−0.011 ± 0.032" in line


def test_settings_are_below_their_names_in_the_order_of_the_summary() -> None:
    lines = printed(200, rows())
    *named, caption = [line for line in lines if line and line[0].isalpha()][1:]
    assert caption.startswith("best: selected on the validation split; worst: ")
    assert named == [line for name in NAMES for line in lines if line.startswith(name)]
    for setting in filter(None, NAMES.values()):
        assert f"  {setting}" in [line.rstrip() for line in lines]


def test_change_is_left_out_only_if_it_does_not_fit() -> None:
    assert "path KL change" in printed(100, rows())[0]
    assert "path KL change" not in printed(80, rows())[0]
    assert "path KL change" in printed(80, rows(has_sde=False))[0]
    assert "KL (SDE)" not in printed(200, rows(has_sde=False))[0]


def test_narrow_terminal_wraps_values_and_cuts_nothing() -> None:
    lines = printed(60, rows())
    assert max(map(len, lines)) <= 60
    columns = " ".join(lines).split()
    assert columns.count("−0.0019") == columns.count("0.0013") == len(NAMES)
    assert columns.count("−0.011") == columns.count("0.032") == len(NAMES)


def test_images_fit_eighty_columns_with_errors_below_their_values() -> None:
    estimates = {
        "path_kl_change": Estimate(-0.0032, 0.0098),
        "fd": Estimate(92.1, 11.2),
        "precision": Estimate(0.742, 0.022),
        "recall": Estimate(0.806, 0.023),
        "memorisation": Estimate(-0.003, 0.027),
    }
    row = SummaryRow(
        name="best KL objective", setting="width 8, w = 1", objective="kl", estimates=estimates
    )
    lines = printed(80, [row])
    (caption,) = [index for index, line in enumerate(lines) if line.startswith("best: ")]
    *heads, _, values, errors = lines[:caption]
    assert {"FD", "precision", "recall", "memorisation"} <= set(" ".join(heads).split())
    numbers = ["−0.0032", "−0.003", "92", "0.742", "0.806"]
    assert values.split() == ["best", "KL", "objective", *numbers]
    of_values = errors.partition("w = 1")[2].split()
    assert " ".join(of_values) == "± 0.0098 ± 0.027 ± 11 ± 0.022 ± 0.023"

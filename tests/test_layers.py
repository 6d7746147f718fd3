"""Imports point down: the contracts of pyproject.toml hold, can fail, and bite when code runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    environment = {"PYTHONPATH": str(folder), "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("plan/plan.py", "import ray", "Only the engine imports Ray"),
        (
            "config/reading/check.py",
            "import torch",
            "Plans, run folders and reports need no torch",
        ),
        ("diffusion/sigmas.py", "import dgray.metrics.path", "Imports point down"),
        ("metrics/path.py", "import dgray.config.study", "Configuration stops at the builders"),
        ("reporting/table.py", "import dgray.plan.plan", "Reports read rows only"),
    ],
)
def test_an_import_that_points_up_is_found(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    shutil.copytree(ROOT / "dgray", tmp_path / "dgray")
    with (tmp_path / "dgray" / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1
    broken = [row for row in result.stdout.splitlines() if " BROKEN" in row]
    assert any(row.startswith(contract) for row in broken), result.stdout


def loaded(statement: str) -> set[str]:
    """Top-level modules that are loaded after ``statement``."""
    program = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_a_plan_is_made_and_shown_without_the_heavy_libraries(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("name: a\ndata: {kind: mixture, name: ring8}\nbase: {kind: wrong_mixture}\n")
    statement = f"""
from pathlib import Path
from rich.console import Console
from dgray.config.reading.load import load_study
from dgray.plan.cost import estimate
from dgray.plan.plan import make_plan
from dgray.cli.plan_view import render_plan
plan = make_plan(load_study(Path({str(study)!r})))
Console(quiet=True).print(render_plan(plan, estimate(plan, cpus=2)))
"""
    assert loaded(statement) & {"torch", "ray", "matplotlib", "pandas", "pyarrow"} == set()


def test_the_run_folder_and_rows_need_no_torch() -> None:
    statement = "import dgray.record.row, dgray.record.run_folder, dgray.reporting.table"
    assert loaded(statement) & {"torch", "ray"} == set()

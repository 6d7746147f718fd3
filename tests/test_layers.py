"""Test the import contracts of pyproject.toml: they hold, and each of their rules can fail."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
Contract = dict[str, Any]


def contracts() -> list[Contract]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared: list[Contract] = project["tool"]["importlinter"]["contracts"]
    return declared


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in ``folder`` against the contracts of pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def forbidden_imports(contract: Contract) -> set[tuple[str, str]]:
    """Return every pair (importer, imported) that a contract forbids."""
    if contract["type"] == "forbidden":
        return set(itertools.product(contract["source_modules"], contract["forbidden_modules"]))
    layers = [[f"dgray.{name.strip()}" for name in row.split("|")] for row in contract["layers"]]
    siblings = (pair for layer in layers for pair in itertools.permutations(layer, 2))
    upward = (
        (lower, higher)
        for above, below in itertools.combinations(layers, 2)
        for lower, higher in itertools.product(below, above)
    )
    return {*siblings, *upward}


def append_import(folder: Path, importer: str, imported: str) -> None:
    """Append an import statement to a module, or to a new module of a package."""
    path = folder.joinpath(*importer.split("."))
    path = path / "files.py" if importer == "dgray" else path
    if path.is_dir():
        path /= "added_by_a_test"
    with path.with_suffix(".py").open("a") as file:
        file.write(f"\nimport {imported}\n")


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract["name"])
def test_every_import_that_a_contract_forbids_is_reported(
    tmp_path: Path, contract: Contract
) -> None:
    shutil.copytree(ROOT / "dgray", tmp_path / "dgray")
    forbidden = forbidden_imports(contract)
    assert forbidden
    for importer, imported in forbidden:
        append_import(tmp_path, importer, imported)
    result = lint(tmp_path)
    assert result.returncode == 1
    assert f"{contract['name']} BROKEN" in result.stdout
    reported = re.findall(r"^(\S+) is not allowed to import (\S+):$", result.stdout, re.MULTILINE)
    assert forbidden <= set(reported)


def test_a_new_package_needs_a_layer(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dgray", tmp_path / "dgray")
    (tmp_path / "dgray" / "unknown.py").touch()
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "- dgray.unknown" in result.stdout


def loaded(statement: str) -> set[str]:
    """Return the top-level modules loaded after ``statement`` in a new process."""
    program = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}


def test_a_plan_is_made_and_shown_without_the_heavy_libraries(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("name: a\ndata: {kind: mixture, name: ring8}\nbase: {kind: wrong_mixture}\n")
    statement = f"from dgray.cli.study import main\nmain([{str(study)!r}, '--plan'])"
    assert loaded(statement) & {"torch", "ray", "matplotlib", "pandas", "pyarrow"} == set()


def test_run_folder_and_rows_need_no_torch() -> None:
    statement = "import dgray.record.row, dgray.record.run_folder, dgray.reporting.table"
    assert loaded(statement) & {"torch", "ray"} == set()

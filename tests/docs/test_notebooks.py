"""The notebooks of docs/notebooks run in a Jupyter kernel, and are stored without outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["my_denoiser", "tour"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def outputs(notebook: Any, kind: str) -> list[str]:
    """Return the outputs of a kind, a MIME type or ``stream``, in their order."""
    outputs = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and kind == "stream":
                outputs.append(output.text)
            elif kind in output.get("data", {}):
                outputs.append(output.data[kind])
    return outputs


# In a process of its own, since the sockets of Jupyter's client are left open there.
_EXECUTE = """
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

manager = AsyncKernelManager()
argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
manager._kernel_spec = KernelSpec(argv=argv, display_name="this Python", language="python")
notebook = nbformat.read(sys.argv[1], as_version=4)
resources = {"metadata": {"path": "."}}
client = NotebookClient(notebook, km=manager, timeout=300, resources=resources)
client.owns_km = True  # it ends the kernel
nbformat.write(client.execute(), "executed.ipynb")
"""


def execute(path: Path, folder: Path) -> Any:
    """Execute a notebook in a kernel of this Python, in a folder."""
    import nbformat

    command = [sys.executable, "-c", _EXECUTE, str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "executed.ipynb", as_version=4)


@pytest.mark.long
def test_the_tour_runs_in_a_kernel(tmp_path: Path) -> None:
    notebook = execute(FOLDER / "tour.ipynb", tmp_path)
    html = outputs(notebook, "text/html")
    assert len(html) == 3
    assert "networks trained" in html[0]  # the plan
    assert "best KL objective" in html[1]  # the run
    assert "calibrated" in html[2]  # a group of the table
    assert outputs(notebook, "image/png")
    assert outputs(notebook, "text/plain")[-1] == "True"  # the exported model is the same
    printed = "".join(outputs(notebook, "stream"))
    assert "<dgray.Model" in printed
    assert "Warning" not in printed


@pytest.mark.long
def test_a_denoiser_of_ones_own_runs_in_a_kernel(tmp_path: Path) -> None:
    notebook = execute(FOLDER / "my_denoiser.ipynb", tmp_path)
    html = outputs(notebook, "text/html")
    assert len(html) == 2  # the run, and the table
    assert "best KL objective" in html[0]
    assert "Warning" not in "".join(outputs(notebook, "stream"))

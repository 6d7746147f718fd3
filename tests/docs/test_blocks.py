"""Every code block of the documents is executed by a test, or states why it is not."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dgray.cli.main import main
from dgray.config.reading.load import load_study
from dgray.plan.plan import make_plan
from tests.docs.blocks import ALL, CODE, DOCUMENTS, OUTPUT, ROOT, Block, commands_of, executed

# Documents with commands that run, in this order and in one folder: later ones use earlier runs.
PAGES = [
    "docs/tutorial.md",
    "docs/how_to/figures.md",
    "docs/how_to/denoiser.md",
    "docs/how_to/edm.md",
    "docs/how_to/grow.md",
    "docs/how_to/images.md",
    "docs/how_to/objective.md",
]
_COMMAND = re.compile(r"^(\$ |(\.venv/bin/)?(python|pip|dgray|ray|tensorboard)\b)", re.MULTILINE)


def test_every_fence_is_read() -> None:
    fences = sum(
        len(re.findall(r"^ *```", path.read_text("utf-8"), re.MULTILINE)) for path in DOCUMENTS
    )
    assert fences == 2 * len(ALL)


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_is_executed_or_states_a_reason(block: Block) -> None:
    assert block.language in CODE | OUTPUT, "name the language: text, if it is output"
    match block.comment:
        case "not run":
            assert len(block.value.split()) >= 3, "the reason is a phrase"
        case "test":
            name, _, test = block.value.partition("::")
            source = (ROOT / name).read_text("utf-8")
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"there is no {block.value}"
            assert Path(block.document).name in source, f"{name} does not read {block.document}"
        case "file" | "edit":
            later = [b for b in executed(block.document) if b.line > block.line]
            stem = Path(block.value).stem
            assert any(stem in b.text for b in later), f"nothing on the page uses {block.value}"
        case _ if block.language in {"sh", "python"}:
            assert block.document in PAGES, "add the document to PAGES, or a comment to the block"
        case _ if block.language == "text":
            assert not _COMMAND.search(block.text), "a command is no output"
        case _:
            assert block.language in {"yaml", *OUTPUT}


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.language == "yaml" and not b.comment], ids=str
)
def test_studies_are_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(block.text)
    assert make_plan(load_study(path)).trials


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the studies of the repository, in which the commands run."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "studies", folder / "studies")
    return folder


@pytest.mark.long
@pytest.mark.usefixtures("unchecked_shapes")  # as a user runs them
@pytest.mark.parametrize("document", PAGES)
def test_commands_run(
    document: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    values: dict[str, object] = {}
    output = ""
    for block in executed(document):
        if block.comment == "file":
            Path(block.value).write_text(block.text)
        elif block.comment == "edit":
            _edit(Path(block.value), block.text)
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), values)
        elif block.language == "sh":
            for arguments in commands_of(block.text):
                _run(arguments, block)
            output = " ".join(capfd.readouterr().out.split())
        else:
            for line in block.text.splitlines():
                assert " ".join(line.split()) in output, f"{block}: the output has no {line}"


def _edit(path: Path, text: str) -> None:
    """Replace the lines of a file that set the same fields as the lines of ``text``."""
    content = path.read_text()
    for line in text.splitlines():
        field = line.partition(":")[0]
        content, count = re.subn(f"^{field}:.*$", line, content, flags=re.MULTILINE)
        assert count == 1, f"{path} has {count} lines with {field}"
    path.write_text(content)


def _run(arguments: list[str], block: Block) -> None:
    """Run a command of a block: dgray in this process, which saves its start, others as they are.

    ``export PYTHONPATH=$PWD`` is done: the folder is on the path.
    """
    if arguments[0] == "dgray":
        assert main(arguments[1:]) == 0, f"{block}: {shlex.join(arguments)}"
    elif arguments != ["export", "PYTHONPATH=$PWD"]:
        program = sys.executable if arguments[0] == "python" else arguments[0]
        subprocess.run([program, *arguments[1:]], check=True)

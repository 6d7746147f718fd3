"""Code blocks of the documents, and the comments above them that say how they are tested.

- ``<!-- not run: REASON -->``: no test executes the block.
- ``<!-- test: PATH::TEST -->``: this test executes it.
- ``<!-- file: NAME -->``: the reader saves the block as NAME; later commands of the page use it.
- ``<!-- edit: NAME -->``: the reader replaces the line of NAME with the same field.

A block without a comment is executed as it is: YAML is a study, which is loaded and planned; shell
commands and Python run in the order of the page, in one folder (``test_blocks.py``). Text after a
command is its output, in part.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "cluster/*.md")
    for path in ROOT.glob(pattern)
)
CODE = {"sh", "bash", "console", "python", "pycon", "yaml", "toml", "json"}
OUTPUT = {"text", "math", "{eval-rst}"}
_BLOCK = re.compile(
    r"^(?: *<!-- (not run|test|file|edit): ([^\n]+?) -->\n)?( *)```([^\n]*)\n(.*?)^\3```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """Fenced block of a document.

    Attributes:
        document: path of the document in the repository.
        line: number of the line of its opening fence or comment.
        language: first word after the opening fence.
        text: content, without the indentation of the fence.
        comment: ``not run``, ``test``, ``file``, ``edit``, or "" if there is no comment.
        value: the reason, the test or the name of the file.
    """

    document: str
    line: int
    language: str
    text: str
    comment: str
    value: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a document."""
    text = path.read_text("utf-8")
    return [
        Block(
            document=str(path.relative_to(ROOT)),
            line=text.count("\n", 0, match.start()) + 1,
            language=match[4],
            text=re.sub(f"^{match[3]}", "", match[5], flags=re.MULTILINE),
            comment=match[1] or "",
            value=match[2] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


ALL = [block for path in DOCUMENTS for block in blocks(path)]


def executed(document: str) -> list[Block]:
    """Return the blocks of a document that run in its folder, in their order."""
    return [
        block
        for block in ALL
        if block.document == document
        and (
            block.comment in {"file", "edit"}
            or (not block.comment and block.language in {"sh", "python", "text"})
        )
    ]


def commands_of(text: str) -> list[list[str]]:
    """Return the arguments of each command in a shell text; continued lines are joined."""
    commands = []
    for line in re.split(r"&&|\n", re.sub(r"\\\n\s*", " ", text)):
        if arguments := shlex.split(line, comments=True):
            commands.append(arguments)
    return commands

"""Test that links in documents resolve, named files exist, and the layers shown are current."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_IGNORED_FOLDERS = {"runs", "build", "dist"}  # besides hidden ones: .venv, .git, caches
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_TARGETS = re.compile(
    r"""\]\( \s* <? ([^\s)>]+)        # [text](target), ![text](target)
      | ^ \s{0,3} \[[^\]]+\]: \s* (\S+) # [name]: target
      | <(?:a|img)\s[^>]*?(?:href|src)="([^"]+)" """,
    re.VERBOSE | re.MULTILINE,
)
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_NAMED_FILE = re.compile(r"`((?:dgray|tests|benchmarks)/[^`\s]*?\.py)(?:::(\w+))?`")
_NAMED_SYMBOL = re.compile(r"`([A-Za-z_]\w*)`\s+(?:in\s+|\()`(dgray/[^`\s]*?\.py)`")
_DOTTED = re.compile(r"(?<!`)``?(dgray(?:\.\w+)+)``?(?!`)")
_NO_MODULES = {f"dgray.{group}" for group in ("objectives", "corrections", "samplers", "metrics")}
_NO_MODULES |= {f"dgray.{group}" for group in ("bases", "discriminators", "incomplete")}
_HEADING = re.compile(r"^#{1,6} +(.+?) *#* *$", re.MULTILINE)


def documents(folder: Path = ROOT) -> list[Path]:
    """Return every Markdown file of the repository."""
    return [
        path
        for path in sorted(folder.rglob("*.md"))
        if not any(
            part.startswith(".") or part in _IGNORED_FOLDERS
            for part in path.relative_to(folder).parts[:-1]
        )
    ]


def anchors(document: Path) -> set[str]:
    """Return the fragments that GitHub generates from the headings of a document."""
    counts: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", document.read_text("utf-8"))):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = counts.get(name, 0)
        counts[name] = count + 1
        if count:
            counts[f"{name}-{count}"] = 1
    return set(counts)


def broken_links(document: Path) -> Iterator[str]:
    """Yield relative links to files or headings that do not exist."""
    text = _CODE.sub("", _FENCE.sub("", document.read_text("utf-8")))
    for groups in _TARGETS.findall(text):
        target = next(group for group in groups if group)
        if _EXTERNAL.match(target):
            continue
        name, _, fragment = target.partition("#")
        path = (document.parent / name) if name else document
        has_anchors = path.suffix == ".md" and path.exists()
        if not path.exists() or (fragment and has_anchors and fragment not in anchors(path)):
            yield target


def missing_files(document: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield Python files, and tests in them, that a document names and that do not exist."""
    for name, test in _NAMED_FILE.findall(document.read_text("utf-8")):
        path = root / name
        if not path.is_file():
            yield name
        elif test and not re.search(rf"^def {test}\(", path.read_text("utf-8"), re.MULTILINE):
            yield f"{name}::{test}"


def missing_symbols(text: str) -> Iterator[str]:
    """Yield names of dgray, as ``dgray.module.name`` or with their file, that do not exist."""
    for symbol, file in _NAMED_SYMBOL.findall(text):
        if (ROOT / file).is_file() and not _defines(ROOT / file, symbol):
            yield f"{symbol} in {file}"
    for name in set(_DOTTED.findall(text)) - _NO_MODULES:
        parts = name.split(".")
        while parts and not any(path.exists() for path in _places(parts)):
            parts.pop()
        rest = name.split(".")[len(parts) :]
        if rest and not any(_defines(path, rest[0]) for path in _places(parts) if path.exists()):
            yield name


def _places(parts: list[str]) -> tuple[Path, Path]:
    path = ROOT.joinpath(*parts)
    return path.with_suffix(".py"), path / "__init__.py"


def _defines(path: Path, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", path.read_text("utf-8")) is not None


def test_the_main_documents_are_checked() -> None:
    names = {str(path.relative_to(ROOT)) for path in documents()}
    assert {"docs/theory.md", "docs/architecture.md", "docs/study_file.md"} <= names


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document: Path) -> None:
    assert list(broken_links(document)) == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document: Path) -> None:
    assert list(missing_files(document)) == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_named_symbols_exist(document: Path) -> None:
    assert list(missing_symbols(document.read_text("utf-8"))) == []


def test_names_in_docstrings_exist() -> None:
    missing = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "dgray").rglob("*.py"))
        if (names := list(missing_symbols(path.read_text("utf-8"))))
    }
    assert missing == {}


def test_missing_symbols_are_reported() -> None:
    text = (
        "`Denoiser` in `dgray/diffusion/denoiser.py`, `Gone` (`dgray/diffusion/denoiser.py`), "
        "``dgray.correction.gone``, `dgray.correction.linear.Gone`, `dgray.correction.linear`, "
        "`dgray.load_study`, `dgray.gone`, `dgray.objectives`"
    )
    assert sorted(missing_symbols(text)) == [
        "Gone in dgray/diffusion/denoiser.py",
        "dgray.correction.gone",
        "dgray.correction.linear.Gone",
        "dgray.gone",
    ]


def test_broken_links_and_missing_files_are_reported(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(
        "# A heading, `with code`\n[good](a.md#a-heading-with-code) [bad](b.md) ![bad](c.png)\n"
        "[bad](#no-heading) <img src='x'> <img width=3 src=\"d.svg\"> `[code](e.md)`\n"
        "[out](https://example.org/f.md) [mail](mailto:a@b.c)\n\n[ref]: g.md\n"
        "```\n[fenced](h.md)\n```\n"
        "`tests/none.py` `dgray/record/row.py`\n"
        "`tests/docs/test_links.py::test_the_main_documents_are_checked`\n"
        "`tests/docs/test_links.py::test_that_does_not_exist`\n"
    )
    assert list(broken_links(document)) == ["b.md", "c.png", "#no-heading", "d.svg", "g.md"]
    assert list(missing_files(document)) == [
        "tests/none.py",
        "tests/docs/test_links.py::test_that_does_not_exist",
    ]


def test_the_layers_shown_are_those_of_the_import_contract() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    assert shown.splitlines() == layers

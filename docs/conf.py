"""Configuration of the documentation site.

``sphinx-build -W -c docs . build/site`` builds it. The source folder is the root of the
repository, so that relative links between Markdown files are those of the site. The built site
requests nothing from other hosts.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
from sphinx.application import Sphinx

import dgray
from dgray.cli.main import cli

project = "dgray"
author = copyright = "The dgray developers"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]

root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/**.ipynb",
    "benchmarks/*.md",
    "cluster/README.md",
]
NAVIGATION = {
    "Start": ["docs/tutorial", "docs/results"],
    "Guides": [
        "docs/how_to/images",
        "docs/how_to/points",
        "docs/how_to/denoiser",
        "docs/how_to/edm",
        "docs/how_to/objective",
        "docs/how_to/corrections",
        "docs/how_to/grow",
        "docs/how_to/report",
        "docs/how_to/figures",
        "docs/how_to/compare",
        "docs/python",
        "docs/notebooks/tour",
        "docs/notebooks/my_denoiser",
        "docs/search",
        "docs/clusters",
        "docs/extending",
    ],
    "Reference": [
        "docs/cli",
        "docs/api",
        "docs/study_file",
        "docs/parquet_schema",
        "docs/theory",
        "docs/storage",
    ],
    "Project": [
        "docs/reliability",
        "docs/performance",
        "Benchmarks <benchmarks/README>",
        "GPU check <benchmarks/gpu>",
        "docs/architecture",
        "Cluster files <cluster/README>",
        "SECURITY",
        "CONTRIBUTING",
        "CHANGELOG",
    ],
}

myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_space = False  # "$5 a day, $155 a month" is no formula
myst_dmath_double_inline = True
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # tests execute the notebooks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "dgray"
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "monokai"


def _complete(_: Sphinx, document: str, source: list[str]) -> None:
    """Append to a page what is read from the code: navigation, commands or the API."""
    parts = {root_doc: _navigation, "docs/cli": _commands, "docs/api": _api}
    if document in parts:
        source[0] += "\n" + "\n".join(parts[document]())


def _navigation() -> Iterator[str]:
    """Yield the navigation of the site, which belongs to the front page."""
    for caption, pages in NAVIGATION.items():
        yield from ("```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", "")


def _commands() -> Iterator[str]:
    """Yield the help of every command."""
    context = click.Context(cli, info_name="dgray")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield from _help(command, click.Context(command, info_name=name, parent=context), 2)


def _help(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    text = click.unstyle(command.get_help(context))
    yield from (f"{'#' * level} {context.command_path}", "", "```text", text, "```", "")
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from _help(part, click.Context(part, info_name=name, parent=context), level + 1)


def _api() -> Iterator[str]:
    """Yield the documentation of every public name."""
    for name in dgray.__all__:
        value = getattr(dgray, name)
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        target = f"{value.__module__}.{value.__qualname__}"
        yield from (f"## {name}", "", "```{eval-rst}", f".. {kind}:: {target}")
        yield from ("   :members:", "```", "") if kind == "autoclass" else ("```", "")


def _write_index(app: Sphinx, exception: Exception | None) -> None:
    """Copy the front page to ``index.html``."""
    if exception is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Register the completed pages and the index."""
    app.connect("source-read", _complete)
    app.connect("build-finished", _write_index)

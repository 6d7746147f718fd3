"""Configuration of the documentation site.

``sphinx-build -W -c docs . build/site`` builds it. The source folder is the root of the
repository, so that relative links between Markdown files are those of the site. The built site
requests nothing from other hosts.
"""

from __future__ import annotations

import html
import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "dgray"
author = copyright = "The dgray developers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/**.ipynb",
    "benchmarks/README.md",
    "cluster/README.md",
]
NAVIGATION = {
    "Start": ["docs/results"],
    "Guides": ["docs/python", "docs/search", "docs/clusters", "docs/extending"],
    "Reference": [
        "docs/study_file",
        "docs/parquet_schema",
        "docs/theory",
        "docs/storage",
    ],
    "Project": [
        "docs/reliability",
        "benchmarks/README",
        "docs/architecture",
        "cluster/README",
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
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = ["katex/katex.min.js", "math.js"]
html_math_renderer = "katex"
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "monokai"


def _add_navigation(_: Sphinx, document: str, source: list[str]) -> None:
    """Append the navigation to the front page, which is README.md."""
    if document == root_doc:
        for caption, pages in NAVIGATION.items():
            lines = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def _inline_formula(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{html.escape(node.astext())}</span>')
    raise nodes.SkipNode


def _formula(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{html.escape(node.astext())}</div>')
    raise nodes.SkipNode


def _write_index(app: Sphinx, exception: Exception | None) -> None:
    """Copy the front page to ``index.html``."""
    if exception is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Register the navigation, the formulas and the index."""
    app.add_html_math_renderer("katex", (_inline_formula, None), (_formula, None))
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _write_index)

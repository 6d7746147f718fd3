"""Representation of terminal output in notebooks."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

_FORMAT = '<pre style="line-height: 1.2; font-family: monospace">{code}</pre>'
_WIDTH = 100  # characters


def recorded(renderable: RenderableType) -> Console:
    """Return a console that holds the output of one renderable."""
    # not of Jupyter, where printing would display the output once more
    console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False)
    console.print(renderable)
    return console


def console_html(renderable: RenderableType) -> str:
    """Return what the terminal would show, as HTML."""
    return recorded(renderable).export_html(code_format=_FORMAT, inline_styles=True)

"""An SVG file made fit to stand inside a page: no prolog, no outside address, ids of its own."""

from __future__ import annotations

import html
import re

_OPENING = re.compile(r"^.*?<svg[^>]*?viewBox=\"(\S+ \S+ (\S+) \S+)\"[^>]*>", re.DOTALL)
# HTML needs no namespaces; matplotlib's style element would style the whole page.
_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """The ``<svg>`` element with every id prefixed, named for readers.

    It scales with the page, up to one and a half times its size, so that the text of a small
    figure does not tower over that of a large one.
    """
    body = _UNWANTED.sub("", svg).replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    label = html.escape(title)
    opening = (
        rf'<svg viewBox="\1" role="img" aria-label="{label}" '
        r'style="stroke-linejoin: round; stroke-linecap: butt; max-width: calc(2px * \2)">'
    )
    return _OPENING.sub(opening, body, count=1)

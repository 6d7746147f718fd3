"""The plotting library of the page: Vega-Lite, bundled by vl-convert without network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import vl_convert


@cache
def plotting_library() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed for an inline script."""
    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    if "</script" in script or "<!--" in script:
        raise ValueError("the plotting library cannot be inlined in a page")
    return f"(() => {{{script}}})();"  # its names stay its own


def script_text(json_text: str) -> str:
    """Return JSON for a script element, which no text in it can end."""
    return json_text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()


def allow_script(page: str, script: str) -> str:
    """Return a page whose policy allows one more script, and requests to its own server."""
    start, meta, rest = page.partition("script-src ")
    return f"{start}connect-src 'self'; {meta}{script_hash(script)} {rest}" if meta else page


def script_hash(script: str) -> str:
    """Return the source of an inline script in a Content-Security-Policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

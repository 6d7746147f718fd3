"""The plotting library of the page: Vega-Lite, bundled by vl-convert without network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dgray.errors import DgrayError
from dgray.files import write_atomically


@cache
def plotting_library() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed for an inline script.

    Bundling takes more than a second, so the script of each version of vl-convert is kept in the
    user's cache folder, with its checksum in the first line.
    """
    folder = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if not os.path.isabs(folder):  # no home folder
        return _bundle()
    path = Path(folder, "dgray", f"vega-{version('vl-convert-python')}.js")
    with contextlib.suppress(OSError, ValueError):
        checksum, _, script = path.read_text("utf-8").partition("\n")
        if checksum == _checksum(script):
            return script
    script = _bundle()
    content = f"{_checksum(script)}\n{script}".encode()
    with contextlib.suppress(OSError, DgrayError):  # a full or read-only disk
        write_atomically(path, lambda file: file.write(content))
    return script


def _checksum(script: str) -> str:
    return f"// {hashlib.sha256(script.encode()).hexdigest()}"


def _bundle() -> str:
    import vl_convert  # 40 MB

    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    if "</script" in script or "<!--" in script:
        raise ValueError("the plotting library cannot be inlined in a page")
    return f"(() => {{{script}}})();"  # its names are not global


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

"""Credentials inside addresses: found, and struck out before something is written or printed.

An address can carry a password before its host (``https://user:password@host``,
``s3://key:secret@bucket``), or a signature or token among its parameters
(``?X-Amz-Signature=...``, ``?sig=...``). A secret that stands alone, without an address around it,
cannot be told from other text and is not found. Knows the standard library only.
"""

from __future__ import annotations

import re

STRUCK_OUT = "***"

# Before the @ of Azure's addresses stands a container; with a colon, it would be a password.
_AZURE = r"(?<!\babfs)(?<!\babfss)(?<!\bwasb)(?<!\bwasbs)"
_USER = re.compile(
    # Up to the host; or a pair, whose secret may hold a slash (not a port and a path with an @).
    rf"""{_AZURE}://[^\s/?\#@'"]+(?:@[^\s/?\#@'"]+)*@
      | ://[^\s/?\#:@'"]*:(?!\d{{1,5}}(?:[/?\#]|$))[^\s?\#'"]+@
    """,
    re.VERBOSE,
)
_NAMES = (
    r"[\w.-]*(?:signature|credential|token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key)[\w.-]*"
    r"|sig|pwd|key|auth|authorization"
)
_PARAMETER = re.compile(rf"""(?P<before>[?&;\#](?:{_NAMES})=)[^\s&;\#'"]+""", re.IGNORECASE)


def has_credentials(text: str) -> bool:
    """Whether an address in ``text`` carries a user, a password, a signature or a token."""
    return without_credentials(text) != text


def without_credentials(text: str) -> str:
    """The same text; whatever would let somebody in is replaced by three asterisks."""
    text = _USER.sub(f"://{STRUCK_OUT}@", text)
    return _PARAMETER.sub(rf"\g<before>{STRUCK_OUT}", text)

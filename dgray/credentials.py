"""Removes credentials from addresses before text is written or printed.

An address can carry a password before its host (``https://user:password@host``,
``s3://key:secret@bucket``), or a signature or token among its parameters
(``?X-Amz-Signature=...``, ``?sig=...``). A secret outside of an address is not recognised.
"""

from __future__ import annotations

import re

REDACTED = "***"

# In Azure's addresses a container stands before the @; with a colon it would be a password.
_AZURE = r"(?<!\babfs)(?<!\babfss)(?<!\bwasb)(?<!\bwasbs)"
_USER = re.compile(
    # Up to the host; or a pair whose secret may hold a slash (but not a port and a path with @).
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
    """Return whether an address in ``text`` holds a user, a password, a signature or a token."""
    return without_credentials(text) != text


def without_credentials(text: str) -> str:
    """Return ``text`` with the credentials in addresses replaced by three asterisks."""
    text = _USER.sub(f"://{REDACTED}@", text)
    return _PARAMETER.sub(rf"\g<before>{REDACTED}", text)

"""Text of users, such as values of axes, made fit for figures, file names and terminals."""

from __future__ import annotations

import hashlib

_ELLIPSIS = "…"


def printable(text: str) -> str:
    r"""Replace characters that are not visible text by escapes such as ``\n`` or ``\u202e``.

    These are control and format characters (the direction of text among them), surrogates and
    separators of lines. Spaces, letters of all scripts and emoji are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else escaped(c) for c in text)


def encodable(text: str) -> str:
    """Replace surrogates, which no file can hold, by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def escaped(text: str) -> str:
    r"""Return the escapes of all characters beyond ASCII, and of control characters."""
    return text.encode("unicode_escape").decode("ascii")


def shortened(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; different texts stay different.

    The middle of a longer text is replaced by an ellipsis and four digits of its hash.
    """
    if len(text) <= limit:
        return text
    digits = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:4]
    middle = f"{_ELLIPSIS}{digits}{_ELLIPSIS}"
    tail = (limit - len(middle)) // 3
    head = limit - len(middle) - tail
    return text[:head] + middle + text[len(text) - tail :]


def shortened_bytes(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` bytes of UTF-8, as ``shortened`` does."""
    size = limit
    while len(shortened(text, size).encode("utf-8", "backslashreplace")) > limit:
        size -= max(1, size // 8)
    return shortened(text, size)

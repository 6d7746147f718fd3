"""Files that are there whole or not at all: written beside, flushed to disk, renamed.

Knows the file system only.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL_SUFFIX = ".partial"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill ``path``; a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        with open(partial, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove_partial_files(folder: Path) -> None:
    """Remove what an interrupted write left under ``folder``."""
    for path in folder.rglob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)


def _sync_directory(folder: Path) -> None:
    # The rename itself must survive a power cut, or rows could outlive the weights they stand for.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

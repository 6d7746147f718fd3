"""Atomic writes: a file is written under another name, flushed to disk, and renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dgray.errors import DiskFullError, OutputError, RunRefusedError

PARTIAL_SUFFIX = ".partial"
_IS_URI = re.compile(r"[A-Za-z][\w+.-]*:/")  # a Path has lost the second slash
_LONGEST_SHOWN = 200  # characters of a path in a message
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(error: OSError, path: Path) -> DiskFullError | None:
    """Return the error to raise if ``error`` means that ``path`` has no space left; else None."""
    if isinstance(error, DiskFullError):
        return error
    if error.errno not in _FULL:
        return None
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    mount = next((p for p in (folder, *folder.parents) if os.path.ismount(p)), folder)
    usage = shutil.disk_usage(folder)
    return DiskFullError(
        f"no space left: {path} cannot be written ({os.strerror(error.errno)}); the file system "
        f"at {mount} has {usage.free / 2**20:,.1f} of {usage.total / 2**20:,.1f} MiB free. "
        "No partial file was left, and finished work is kept; free some space there"
    )


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a small regular file; reading a pipe or a device may never end.

    Raises:
        ValueError: it is no regular file, or too large.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"it must be a regular file, but is {kind}")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it must have at most {max_bytes:,} bytes, but has more")
    return content


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Python's parser also accepts a name that is given twice, NaN and infinity; they are refused.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Args:
        path: path of the file; missing folders are created.
        write: called with the open file to fill.

    Raises:
        DiskFullError: no space is left.
    """
    try:
        _write(path, write)
    except OSError as error:
        if (full := disk_full(error, path)) is not None:
            raise full from None
        raise


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    make_folder(path.parent)
    partial = _partial(path)
    try:
        with open(partial, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents; they survive a power cut once this returns."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for created in reversed(missing):
        sync_folder(created.parent)


def output_folder(path: Path) -> Path:
    """Create a folder for output if it does not exist, and check that files can be written there.

    Returns:
        The folder, with ``~`` replaced by the home folder.

    Raises:
        OutputError: that is impossible.
        DiskFullError: no space is left.
    """
    with _refusing(path, "a folder"):
        folder = path.expanduser()
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder


def output_file(path: Path) -> Path:
    """Check that a file can be written atomically, and create its folder if it does not exist.

    Returns:
        The file, with ``~`` replaced by the home folder.

    Raises:
        OutputError: that is impossible.
        DiskFullError: no space is left.
    """
    with _refusing(path, "a file"):
        file = path.expanduser()
        if file.exists() and not file.is_file():
            raise OSError(errno.EISDIR, "it is a folder or a device")
        make_folder(file.parent)
        partial = _partial(file)
        with open(partial, "xb"):
            partial.unlink()
        return file


@contextlib.contextmanager
def _refusing(path: Path, kind: str) -> Iterator[None]:
    """Raise OutputError in place of the many errors of a path that is no place for output."""
    try:
        if _IS_URI.match(str(path)):
            raise ValueError("it is an address")
        yield
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~ of an unknown user
        if isinstance(error, OSError) and (full := disk_full(error, Path.cwd())) is not None:
            raise full from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, FileExistsError):
            reason = f"{str(error.filename)[:_LONGEST_SHOWN]} is a file, or a link to nothing"
        shown = str(path)[:_LONGEST_SHOWN]
        raise OutputError(
            f"{shown}: the place of output must be {kind} on this machine that can be created and "
            f"written, but this one cannot ({reason}); give another"
        ) from error


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file or folder in ``folder``, by its name relative to it.

    Raises:
        RunRefusedError: ``..`` or a link in the name leads out of the folder.
    """
    root, path = os.path.realpath(folder), os.path.realpath(folder / name)
    if ".." in Path(name).parts or not Path(path).is_relative_to(root):
        raise RunRefusedError(
            f"{folder / name}: must lie in {folder}, but leads to {path}; remove the link"
        )
    return folder / name


def remove_partial_files(folder: Path) -> None:
    """Remove partial files that interrupted writes left under ``folder``."""
    for path in folder.rglob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)


def sha256_of(content: Path | bytes) -> str:
    """Return the SHA-256 of bytes or of a file's content, 64 hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of safetensors bytes; empty if they have none.

    The format begins with the length of a JSON header, eight bytes, little-endian. Its library
    reads the metadata of files only.

    Raises:
        ValueError: the header is not JSON.
    """
    length = int.from_bytes(content[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(content[8 : 8 + length])
    return header.get("__metadata__", {})


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    # A rename must survive a power cut too, or rows could outlive the weights they belong to.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Image files of a folder or of a zip file, listed before any is opened. No torch."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dgray.data.summary import counted, examples, printable
from dgray.errors import DataError, MissingFileError

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
INDEX = "dataset.json"
# Folders that operating systems and file servers add; names with a dot are hidden anyway.
SYSTEM = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
HIDDEN = "hidden or of the system"
OTHER = "not PNG, JPEG or WebP"
BROKEN = "links without a target or special files"
LINKED = "read already under another name"


@dataclass(frozen=True)
class Listing:
    """Image files of one data set.

    Attributes:
        source: the folder or the zip file.
        images: paths of the images within it, sorted, with ``/`` between their parts.
        indices: paths of files named ``dataset.json``.
        skipped: paths of everything else, by reason; that of a folder ends in ``/``.
        open: opens one of these paths.
    """

    source: Path
    images: tuple[str, ...]
    indices: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]
    open: Callable[[str], BinaryIO]

    @property
    def name(self) -> str:
        """Name of the data set: that of the folder or file."""
        return printable(self.source.resolve().stem) or str(self.source)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on entries that were skipped, with the reasons."""
        return tuple(
            f"skipped {counted(len(names), 'entry', 'entries')}, {reason}: {examples(names)}"
            for reason, names in self.skipped.items()
        )


@contextmanager
def open_folder(path: str | Path) -> Iterator[Listing]:
    """List the image files below a folder; links are followed, each folder is read once.

    Raises:
        MissingFileError: if there is no such folder, or no image in it.
        DataError: if a folder cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        hint = "; it is a file: use data.kind zip or npz" if root.is_file() else ""
        raise MissingFileError(
            f"{root}: must be a folder of images, but there is no such folder{hint}"
        )
    yield _listing(root, _walk(root, "", set()), lambda name: (root / name).open("rb"))


@contextmanager
def open_zip(path: str | Path) -> Iterator[Listing]:
    """List the image files of a zip file.

    Raises:
        MissingFileError: if there is no such file, or no image in it.
        DataError: if the file is not a zip.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        hint = "; it is a folder: use data.kind folder" if file.is_dir() else ""
        raise MissingFileError(f"{file}: must be a zip of images, but there is no such file{hint}")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{file}: must be a zip file, but it is not readable: {error}") from error
    with archive:
        # Of several entries with one name, the last is the one that unpacking leaves.
        entries = {
            entry.filename.replace("\\", "/"): entry
            for entry in archive.infolist()
            if not entry.is_dir()
        }
        names = ((name, None) for name in entries)
        yield _listing(file, names, lambda name: _open_entry(archive, entries[name]))


def _open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    stream: BinaryIO = archive.open(entry)  # type: ignore[assignment]
    return stream


def _listing(
    source: Path, entries: Iterator[tuple[str, str | None]], opener: Callable[[str], BinaryIO]
) -> Listing:
    """Sort paths, each with the reason to skip it or None, into images and others."""
    images, indices = [], []
    skipped: dict[str, dict[str, None]] = {}
    for name, reason in sorted(entries):
        hidden = _hidden_part(name)
        if hidden is not None:
            skipped.setdefault(HIDDEN, {})[hidden] = None
        elif reason is not None:
            skipped.setdefault(reason, {})[name] = None
        elif name.lower().endswith(SUFFIXES):
            images.append(name)
        elif name.rpartition("/")[2] == INDEX:
            indices.append(name)
        else:
            skipped.setdefault(OTHER, {})[name] = None
    listing = Listing(
        source,
        tuple(images),
        tuple(indices),
        {reason: tuple(names) for reason, names in skipped.items()},
        opener,
    )
    if not images:
        others = "; ".join(listing.remarks)
        raise MissingFileError(
            f"{source}: must hold images ({', '.join(SUFFIXES)}), but it holds none"
            + (f" ({others})" if others else "")
        )
    return listing


def _hidden_part(name: str) -> str | None:
    """Return the path up to its first hidden part; None if there is no such part."""
    parts = name.split("/")
    for index, part in enumerate(parts):
        if part.startswith(".") or part in SYSTEM:
            is_folder = index + 1 < len(parts)
            return "/".join(parts[: index + 1]) + ("/" if is_folder else "")
    return None


def _walk(
    root: Path, prefix: str, visited: set[tuple[int, int]]
) -> Iterator[tuple[str, str | None]]:
    """Yield the path of each file below a folder, and the reason to skip it or None."""
    status = os.stat(root)
    visited.add((status.st_dev, status.st_ino))
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{root}: every folder of the data must be readable: {error}") from error
    for entry in entries:
        name = prefix + entry.name
        if _hidden_part(entry.name) is not None:
            yield (f"{name}/" if entry.is_dir(follow_symlinks=False) else name), HIDDEN
            continue
        try:
            status = entry.stat()
        except OSError:  # no target, or a loop of links
            yield name, BROKEN
            continue
        if stat.S_ISREG(status.st_mode):
            yield name, None
        elif not stat.S_ISDIR(status.st_mode):
            yield name, BROKEN
        elif (status.st_dev, status.st_ino) in visited:
            yield f"{name}/", LINKED
        else:
            yield from _walk(root / entry.name, f"{name}/", visited)

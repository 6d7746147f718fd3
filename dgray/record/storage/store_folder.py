"""Objects of one folder of a store, by their names relative to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgray.record.storage.lease import LeasedStore
    from dgray.record.storage.store import Entry, Store


@dataclass(frozen=True)
class StoreFolder:
    """Folder of a store.

    Attributes:
        store: store of the run.
        folder: name of the folder in it.
    """

    store: Store | LeasedStore | StoreFolder
    folder: str

    def entries(self, folder: str = "") -> Mapping[str, Entry]:
        """Return the objects in a folder of it by name."""
        entries = self.store.entries(f"{self.folder}/{folder}")
        return {name.removeprefix(f"{self.folder}/"): entry for name, entry in entries.items()}

    def read(self, name: str) -> bytes | None:
        """Return an object, or None if it does not exist."""
        return self.store.read(f"{self.folder}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write an object atomically."""
        self.store.write(f"{self.folder}/{name}", content)

    def delete(self, name: str) -> None:
        """Delete an object if it exists."""
        self.store.delete(f"{self.folder}/{name}")

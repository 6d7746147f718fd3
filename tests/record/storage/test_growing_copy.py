"""Copies of a run in an object store that grows: only what has changed is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.record.storage.location import location
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import GrowingCopy
from tests.record.storage.conftest import Bucket


def test_only_new_and_changed_records_are_read(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Store.read

    def noting(store: Store, name: str) -> bytes | None:
        read.append(name)
        return original(store, name)

    monkeypatch.setattr(Store, "read", noting)
    bucket.put("rows/a-000001.parquet", b"one")
    bucket.put("checkpoints/a-000001.safetensors", b"state")
    bucket.put("provenance.json", b"{}")
    copy = GrowingCopy(location(bucket.uri()), tmp_path / "copy")
    assert copy.update()
    assert sorted(read) == ["provenance.json", "rows/a-000001.parquet"]
    assert not copy.update()
    bucket.put("rows/a-000002.parquet", b"two")
    bucket.put("provenance.json", b'{"sessions": []}')
    read.clear()
    assert copy.update()
    assert sorted(read) == ["provenance.json", "rows/a-000002.parquet"]
    assert (tmp_path / "copy" / "provenance.json").read_bytes() == b'{"sessions": []}'
    bucket.client.delete_object(Bucket=bucket.name, Key="a/tiny/rows/a-000001.parquet")
    assert copy.update()
    assert copy.names == {"provenance.json", "rows/a-000002.parquet"}
    assert [path.name for path in (tmp_path / "copy" / "rows").iterdir()] == ["a-000002.parquet"]

"""A run in an object store grows as one in a folder does, and keeps what it no longer asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.record.storage.location import Uri, location
from tests.growth.sessions import Sessions, check_same
from tests.record.storage.conftest import Bucket

GROWN = [
    "evaluate.guidance_weight=[0.5, calibrated, 2]",
    "fit.checkpoints=[2, 4, 6]",
    "discriminator.width=[16, 20]",
]


def parts(bucket: Bucket) -> set[str]:
    return {name for name in bucket.objects() if name.startswith(("rows/", "checkpoints/"))}


@pytest.mark.long
@pytest.mark.usefixtures("in_a_hurry")
def test_a_run_in_a_store_grows_and_shrinks(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path, monkeypatch)
    uri = location(bucket.uri())
    assert isinstance(uri, Uri)
    sessions.run(uri)
    before = parts(bucket)
    sessions.run(uri, *GROWN, stop_after=2)  # its working copy is removed
    sessions.run(uri, *GROWN)
    fresh = sessions.run("fresh", *GROWN)
    assert parts(bucket) == {
        n for kind in ("rows", "checkpoints") for n in fresh.files.names(kind)
    }
    copy = tmp_path / "copy"
    for name, content in bucket.objects().items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    check_same(type(fresh)(copy), fresh)
    sessions.run(uri)  # the first study again
    assert (sessions.trained, sessions.checkpoints) == (0, 0)
    assert parts(bucket) == before

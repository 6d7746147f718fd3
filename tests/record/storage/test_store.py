"""Objects are written atomically over a failing network."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgray.errors import StoreError
from dgray.record.storage import store as store_module
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store
from tests.record.storage.conftest import Bucket
from tests.record.storage.faulty_proxy import Fault, FaultyProxy

ROOT = Path(__file__).parents[3]
OPERATIONS: dict[str, tuple[object, ...]] = {
    "entries": (),
    "entry": ("a",),
    "read": ("a",),
    "write": ("a", b"x"),
    "delete": ("a",),
}
BIG = 11 * 2**20  # a multipart upload


def store_of(bucket: Bucket, patience: float = 30.0) -> Store:
    uri = location(bucket.uri())
    assert isinstance(uri, Uri)
    return Store(uri, patience)


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LONGEST_PAUSE", 0.05)


def test_objects_are_read_back_as_written(bucket: Bucket) -> None:
    store = store_of(bucket)
    assert store.entries() == {}
    assert store.read("rows/a.parquet") is None
    store.delete("rows/a.parquet")  # does not exist
    contents = {"rows/a.parquet": b"\0rows", "run.json": b"", "big": bytes(range(256)) * 45056}
    assert len(contents["big"]) == BIG
    for name, content in contents.items():
        store.write(name, content)
    assert bucket.objects() == contents
    again = pickle.loads(pickle.dumps(store))
    assert {name: again.read(name) for name in contents} == contents
    assert {n: e.size for n, e in again.entries().items()} == {
        n: len(c) for n, c in contents.items()
    }
    assert list(again.entries("rows")) == ["rows/a.parquet"]
    assert again.entry("run.json") == again.entries()["run.json"]
    assert again.entry("rows") is None  # a folder
    store.delete("rows/a.parquet")
    assert set(store.entries()) == {"run.json", "big"}
    store.write("run.json", b"other")
    assert store.read("run.json") == b"other"


def test_a_pickled_store_works_in_a_process_with_another_environment(bucket: Bucket) -> None:
    program = "import pickle, sys; pickle.load(sys.stdin.buffer).write('rows/a', b'rows')"
    other = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(store_of(bucket)),
        env={**other, "PYTHONPATH": str(ROOT), "AWS_SESSION_TOKEN": "of-another-account"},
        check=True,
        timeout=120,
    )
    assert bucket.objects() == {"rows/a": b"rows"}


def every(count: int, *faults: Fault) -> Iterator[Fault | None]:
    """Each fault in turn, ``count`` requests apart."""
    while True:
        for fault in faults:
            yield from [None] * (count - 1)
            yield fault


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, code="SlowDown"),
        Fault(reset="before"),
        Fault(reset="after"),
        Fault(cut=True),
        Fault(seconds=0.3),
    ],
    ids=str,
)
def test_failures_of_every_second_request_are_retried(
    fault: Fault, bucket: Bucket, proxy: FaultyProxy
) -> None:
    faults = every(2, fault)
    proxy.choose = lambda method, path: next(faults)
    store = store_of(bucket)
    contents = {f"rows/{i}": bytes([i]) * 5000 for i in range(2)}
    for name, content in contents.items():
        store.write(name, content)
    assert {name: store.read(name) for name in store.entries("rows")} == contents
    store.delete("rows/0")
    assert set(bucket.objects()) == contents.keys() - {"rows/0"}
    assert sum(response_fault is fault for _, _, response_fault in proxy.done) > 2


def test_failures_within_a_multipart_upload_are_retried(
    bucket: Bucket, proxy: FaultyProxy
) -> None:
    faults = every(3, Fault(status=500), Fault(reset="before"), Fault(reset="after"))
    proxy.choose = lambda method, path: next(faults)
    content = bytes(range(256)) * 45056
    store_of(bucket).write("checkpoints/big", content)
    assert bucket.objects() == {"checkpoints/big": content}


def test_an_incomplete_multipart_upload_leaves_no_object(
    bucket: Bucket, proxy: FaultyProxy
) -> None:
    proxy.choose = lambda method, path: Fault(status=500) if "partNumber=2" in path else None
    with pytest.raises(StoreError, match="has failed for"):
        store_of(bucket, patience=0.2).write("checkpoints/big", bytes(BIG))
    assert bucket.objects() == {}


def test_a_store_without_answers_fails_faster_the_second_time(
    bucket: Bucket, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(bucket, patience=2.0)
    store.write("rows/1", b"rows")
    proxy.choose = lambda method, path: Fault(reset="before")
    with pytest.raises(StoreError) as failed:
        store.write("rows/2", b"rows")
    assert str(failed.value).startswith(f"{bucket.uri()}: the store has failed for")
    assert "hunter2" not in str(failed.value)
    tried = len(proxy.done)
    with pytest.raises(StoreError):  # not retried as long as before
        store.write("rows/2", b"rows")
    assert len(proxy.done) - tried <= 2
    proxy.choose = lambda method, path: None
    store.write("rows/2", b"rows")
    assert bucket.objects() == {"rows/1": b"rows", "rows/2": b"rows"}


def test_a_server_that_never_answers(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SILENCE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(StoreError, match="has failed for"):
            store_of(bucket, patience=0.1).entries()


REFUSED = [
    (403, code, o) for code in ("AccessDenied", "SignatureDoesNotMatch") for o in OPERATIONS
]
# The response to HEAD has no body, and status 400 alone is ambiguous.
REFUSED += [(400, "ExpiredToken", o) for o in ("entries", "write")]


@pytest.mark.parametrize(("status", "code", "operation"), REFUSED)
def test_refused_requests_are_not_retried(
    status: int, code: str, operation: str, bucket: Bucket, proxy: FaultyProxy
) -> None:
    bucket.put("a", b"content")
    proxy.choose = lambda method, path: Fault(status=status, code=code)
    with pytest.raises(StoreError, match="the store refuses: the credentials are missing"):
        getattr(store_of(bucket), operation)(*OPERATIONS[operation])
    assert len(proxy.done) <= 2
    assert bucket.objects() == {"a": b"content"}


@pytest.mark.parametrize("operation", ["entries", "write"])
def test_a_missing_bucket(operation: str, proxy: FaultyProxy) -> None:
    store = Store(Uri("s3", "no-such-bucket-here", "a"))
    with pytest.raises(StoreError, match="s3://no-such-bucket-here/a: there is no such bucket"):
        getattr(store, operation)(*OPERATIONS[operation])


def test_a_pyarrow_without_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(store_module.fs, "S3FileSystem")
    monkeypatch.setattr(store_module.fs, "_not_imported", ["S3FileSystem"])  # as pyarrow does
    with pytest.raises(StoreError, match="built without s3://; install"):
        Store(Uri("s3", "b", "a")).entries()

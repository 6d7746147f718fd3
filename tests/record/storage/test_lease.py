"""At most one driver holds a run in an object store."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable

import pytest

from dgray.errors import RunRefusedError, StoreError
from dgray.record.storage import conditional
from dgray.record.storage import lease as lease_module
from dgray.record.storage.lease import Lease, LeasedStore
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Entry, Store
from tests.record.storage.conftest import Bucket
from tests.record.storage.faulty_proxy import Fault, FaultyProxy

LEASE = 3.0  # seconds; the server rounds times to seconds


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(lease_module, "POLL_SECONDS", 0.2)


def store_of(bucket: Bucket, patience: float = 5.0) -> Store:
    uri = location(bucket.uri())
    assert isinstance(uri, Uri)
    return Store(uri, patience)


def take(
    bucket: Bucket,
    tell: Callable[[str], None] = lambda message: None,
    on_lost: Callable[[], None] = lambda: None,
) -> Lease:
    return Lease(store_of(bucket), tell, on_lost)


def claims(bucket: Bucket) -> list[str]:
    return [name for name in bucket.objects() if name.startswith(".lock/")]


def test_a_second_driver_is_refused_with_the_name_of_the_first(bucket: Bucket) -> None:
    first = take(bucket)
    with pytest.raises(RunRefusedError) as refused:
        take(bucket)
    assert f"process {os.getpid()} on {socket.gethostname()} (since 2" in str(refused.value)
    assert "--out" in str(refused.value)
    assert len(claims(bucket)) == 1  # that of the refused driver was deleted
    assert first.lost is None
    first.release()
    assert claims(bucket) == []
    take(bucket).release()


def test_the_lease_of_a_dead_driver_expires(bucket: Bucket) -> None:
    dead = {"pid": 4321, "host": "node7", "started": "2026-01-01T00:00:00+00:00"}
    bucket.put(".lock/dead.json", json.dumps(dead).encode())
    died, messages = time.monotonic(), list[str]()
    lease = take(bucket, messages.append)
    assert time.monotonic() - died > LEASE - 1.5
    (message,) = messages
    assert message.startswith(f"{bucket.uri()}: locked by process 4321 on node7 (since 2026-01-01")
    assert ".lock/dead.json" not in claims(bucket)
    lease.release()


def test_of_many_drivers_at_most_one_holds_the_lease(bucket: Bucket) -> None:
    barrier, lock = threading.Barrier(6), threading.Lock()
    holders, most, refusals = 0, 0, 0

    def drive() -> None:
        nonlocal holders, most, refusals
        barrier.wait()
        try:
            lease = take(bucket)
        except RunRefusedError:
            with lock:
                refusals += 1
            return
        with lock:
            holders += 1
            most = max(most, holders)
        time.sleep(0.5)
        with lock:
            holders -= 1
        lease.release()

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 1
    assert refusals >= 1
    assert claims(bucket) == []


def test_a_lease_survives_a_short_outage(
    bucket: Bucket, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 2 * LEASE)  # also on a busy machine
    lost = threading.Event()
    lease = take(bucket, on_lost=lost.set)
    proxy.choose = lambda method, path: Fault(reset="before")
    time.sleep(1.0)
    proxy.choose = lambda method, path: None
    assert not lost.wait(2 * LEASE)
    lease.release()
    assert lease.lost is None


@pytest.mark.parametrize("cause", ["taken over", "a long outage"])
def test_a_lost_lease_is_not_renewed(cause: str, bucket: Bucket, proxy: FaultyProxy) -> None:
    lost = threading.Event()
    lease = take(bucket, on_lost=lost.set)
    if cause == "taken over":
        store_of(bucket).delete(claims(bucket)[0])
    else:
        proxy.choose = lambda method, path: Fault(reset="before")
    assert lost.wait(60)
    assert lease.lost is not None
    proxy.choose = lambda method, path: None
    before = claims(bucket)
    time.sleep(1.0)
    assert claims(bucket) == before
    lease.release()


def test_a_lease_needs_permission_to_write(bucket: Bucket, proxy: FaultyProxy) -> None:
    forbidden = Fault(status=403, code="AccessDenied")
    proxy.choose = lambda method, path: forbidden if method in ("PUT", "DELETE") else None
    with pytest.raises(StoreError, match="the store refuses"):
        take(bucket)
    assert claims(bucket) == []


def test_a_holder_that_was_late_writes_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(bucket)
    mirror = LeasedStore(store_of(bucket), first.name)
    mirror.write("rows/a", b"first")
    copy = pickle.loads(pickle.dumps(mirror))  # that of Ray's writer
    # The process is suspended: it does not renew, and does not see that its lease has expired.
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "_write_claim", lambda self, store: time.sleep(20))
        time.sleep(LEASE + 1.5)
    second = take(bucket)
    LeasedStore(store_of(bucket), second.name).write("rows/b", b"second")
    for late in (mirror, copy):
        with pytest.raises(StoreError, match="lease has expired"):
            late.write("rows/b", b"first")
        with pytest.raises(StoreError, match="lease has expired"):
            late.delete("rows/b")
    assert bucket.objects()["rows/b"] == b"second"
    second.release()


@pytest.mark.parametrize("has_conditional_writes", [True, False])
def test_a_claim_that_was_deleted_is_not_written_again(
    has_conditional_writes: bool, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the renewal another driver may take over."""
    if not has_conditional_writes:
        monkeypatch.setattr(conditional, "_client", lambda: None)
    lost = threading.Event()
    first = take(bucket, on_lost=lost.set)
    entry = Store.entry
    second: list[Lease] = []

    def slow_entry(store: Store, name: str) -> Entry | None:
        seen = entry(store, name)
        if threading.current_thread().name == "lease" and not second and name == first.name:
            store.delete(name)
            time.sleep(1.1)  # claims are ordered by the time of the store, in seconds
            second.append(take(bucket))
        return seen

    monkeypatch.setattr(Store, "entry", slow_entry)
    if has_conditional_writes:
        assert lost.wait(10)
        assert claims(bucket) == [second[0].name]
    else:  # the claim is written again, but is not the latest
        while first.name not in claims(bucket) or not second:
            time.sleep(0.1)
        with pytest.raises(StoreError, match="lease has expired"):
            LeasedStore(store_of(bucket), first.name).write("rows/a", b"first")
    LeasedStore(store_of(bucket), second[0].name).write("rows/a", b"second")
    second[0].release()
    first.release()


def test_a_lost_answer_to_a_conditional_write_is_no_other_writer(
    bucket: Bucket, proxy: FaultyProxy
) -> None:
    uri = store_of(bucket).uri
    claim = conditional.ConditionalObject(uri, ".lock/a.json", b"mine")
    proxy.choose = lambda method, path: Fault(reset="after") if method == "PUT" else None
    with pytest.raises(OSError, match="onnection"):
        claim.write()
    proxy.choose = lambda method, path: None
    assert claim.write()
    assert claim.write()
    bucket.put(".lock/a.json", b"of another")
    with pytest.raises(conditional.OtherWriterError):
        claim.write()
    with pytest.raises(conditional.OtherWriterError):
        conditional.ConditionalObject(uri, ".lock/a.json", b"mine").write()

"""At most one driver holds a run in an object store."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from dgray.errors import RunRefusedError, StoreError
from dgray.record.storage import lease as lease_module
from dgray.record.storage.lease import Lease
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store
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


def test_a_lease_survives_a_short_outage(bucket: Bucket, proxy: FaultyProxy) -> None:
    lost = threading.Event()
    lease = take(bucket, on_lost=lost.set)
    proxy.choose = lambda method, path: Fault(reset="before")
    time.sleep(1.0)
    proxy.choose = lambda method, path: None
    assert not lost.wait(LEASE)
    lease.release()
    assert lease.lost is None


@pytest.mark.parametrize("how", ["taken over", "a long outage"])
def test_a_lost_lease_is_not_renewed(how: str, bucket: Bucket, proxy: FaultyProxy) -> None:
    lost = threading.Event()
    lease = take(bucket, on_lost=lost.set)
    if how == "taken over":
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

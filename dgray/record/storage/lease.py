"""Lease of a driver on a run in an object store: an object that is renewed while the driver lives.

A driver writes a claim, ``RUN/.lock/TOKEN.json``, then lists all claims; it holds the run if no
other claim is alive. S3 and Google Cloud Storage list every object that was written before, so of
two drivers that start at the same time at least one sees the other: both may be refused, but never
do both hold the run. Only PUT, LIST and DELETE are needed, no conditional writes, which many
S3-compatible stores lack. A claim is alive for ``LEASE_SECONDS`` after it was last written; ages
are differences of the store's own times, so the clocks of the drivers do not matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from dgray.errors import RunRefusedError, StoreError
from dgray.record.run_lock import LOCK_NAME
from dgray.record.storage.store import Entry, Store

LEASE_SECONDS = 90.0
RENEW_SECONDS = 15.0
POLL_SECONDS = 2.0


class Lease:
    """Lease on a run, held from construction to ``release``, or until it could not be renewed.

    Construction waits for the lease of a driver that may have died to expire.

    Args:
        store: store of the run.
        notify: called with a message if the lease of another driver has to expire first.
        on_lost: called from another thread when the lease is lost.

    Raises:
        RunRefusedError: another driver holds the lease; the message names it.
        StoreError: the store fails.
    """

    def __init__(
        self, store: Store, notify: Callable[[str], None], on_lost: Callable[[], None]
    ) -> None:
        self._store = store
        self._name = f"{LOCK_NAME}/{secrets.token_hex(8)}.json"
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._on_lost = on_lost
        self.lost: str | None = None
        self._renewed = time.monotonic()
        self._is_released = threading.Event()
        try:
            self._take(notify)
        except BaseException:
            self._delete_claim()
            raise
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the lease."""
        self._is_released.set()
        self._thread.join()
        self._delete_claim()

    def _delete_claim(self) -> None:
        with contextlib.suppress(StoreError):  # it expires by itself
            self._store.once().delete(self._name)

    def _take(self, notify: Callable[[str], None]) -> None:
        """Claim the run and wait until no other claim is alive; refuse if another is renewed."""
        seen: dict[str, int] = {}
        while alive := self._other_claims():
            for name, claim in alive.items():
                if seen.get(name, claim.modified) != claim.modified:
                    raise RunRefusedError(
                        f"{self._store.uri}: a run can be written by one driver at a time, and "
                        f"this one is locked by {self._holder(name)}; wait for it, stop it, or "
                        "give another place with --out"
                    )
            if not seen:
                notify(
                    f"{self._store.uri}: locked by {self._holder(next(iter(alive)))}; waiting at "
                    f"most {LEASE_SECONDS:.0f} s to see whether it is still running"
                )
            seen |= {name: claim.modified for name, claim in alive.items()}
            time.sleep(POLL_SECONDS)

    def _other_claims(self) -> Mapping[str, Entry]:
        """Renew the claim and return those of other drivers; delete those that have expired."""
        self._write_claim(self._store)
        claims = self._store.entries(LOCK_NAME)
        if self._name not in claims:
            raise StoreError(
                f"{self._store.uri}: the store does not list an object that was just written, so "
                "that drivers cannot see each other; give another place with --out"
            )
        now = claims.pop(self._name).modified
        alive = {n: c for n, c in claims.items() if now - c.modified < LEASE_SECONDS * 1e9}
        for name in claims.keys() - alive.keys():
            self._store.delete(name)
        return alive

    def _write_claim(self, store: Store) -> None:
        content = {"pid": os.getpid(), "host": socket.gethostname(), "started": self._started}
        start = time.monotonic()
        store.write(self._name, json.dumps(content).encode() + b"\n")
        self._renewed = start

    def _holder(self, name: str) -> str:
        content = json.loads(self._store.read(name) or b"{}")
        if not content:
            return "another process"
        return f"process {content['pid']} on {content['host']} (since {content['started']})"

    def _renew(self) -> None:
        """Renew the claim until it is released or lost."""
        store = self._store.once()
        while not self._is_released.wait(RENEW_SECONDS):
            try:
                # A claim that was removed was taken over: it must not be written again.
                exists = store.entry(self._name) is not None
                if exists and time.monotonic() - self._renewed < LEASE_SECONDS:
                    self._write_claim(store)
                    continue
            except StoreError:
                if time.monotonic() - self._renewed < LEASE_SECONDS:
                    continue
            if not self._is_released.is_set():
                self.lost = (
                    f"{self._store.uri}: this driver's lease was not renewed in time or was taken "
                    "over, so another driver may hold the run; finished work is kept"
                )
                self._on_lost()
            return


class LeasedStore:
    """Mirror of a run folder that refuses writes once the driver's lease is lost.

    Pickles as the store alone, for the process of Ray that writes rows: it ends with the driver.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._lease, self._store = lease, store
        self.read = store.read
        self.delete = store.delete

    def __reduce__(self) -> tuple[Any, ...]:
        return self._store.__reduce__()

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        if self._lease.lost is not None:
            raise StoreError(self._lease.lost)
        self._store.write(name, content)

"""Lease of a driver on a run in an object store: an object that is renewed while the driver runs.

A driver writes a claim, ``RUN/.lock/TOKEN.json``, then lists all claims; if no other claim is
alive, it holds the run and writes ``RUN/.lock/TIME-TOKEN.json`` in its place. S3 and Google Cloud
Storage list every object that was written before, so of two drivers that start at the same time at
least one sees the other: both may be refused, but never do both hold the run. A claim is alive for
``LEASE_SECONDS`` after it was last written, and who takes over deletes it first; TIME and ages are
of the store's own clock, so the clocks of the drivers do not matter.

A holder that was late (a sleeping laptop) is kept out in two ways: it renews its claim by a
conditional write, where the store allows it (``conditional.py``), which fails once the claim was
deleted; and it writes nothing before it has seen that the latest claim is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pyarrow import fs

from dgray.errors import RunRefusedError, StoreError
from dgray.record.run_lock import LOCK_NAME
from dgray.record.storage.conditional import ConditionalObject, OtherWriterError
from dgray.record.storage.store import Entry, Store

LEASE_SECONDS = 90.0
RENEW_SECONDS = 15.0
POLL_SECONDS = 2.0
_HOLDER = re.compile(rf"{re.escape(LOCK_NAME)}/[0-9]{{20}}-[0-9a-f]+\.json")


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
        self._token = secrets.token_hex(8)
        self._name = f"{LOCK_NAME}/{self._token}.json"
        self._object: ConditionalObject | None = None
        content = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": self._token,
        }
        self._content = json.dumps(content).encode() + b"\n"
        self._on_lost = on_lost
        self.lost: str | None = None
        self._renewed = time.monotonic()
        self._is_released = threading.Event()
        try:
            self._take(notify)
            self._hold()
        except BaseException:
            self._delete_claim()
            raise
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Name of the claim."""
        return self._name

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

    def _hold(self) -> None:
        """Replace the claim by that of a holder, whose name has the store's time."""
        entry = self._store.entry(self._name)
        if entry is None:
            raise StoreError(f"{self._store.uri}: the claim of this driver was deleted")
        waiting, self._name = self._name, f"{LOCK_NAME}/{entry.modified:020d}-{self._token}.json"
        self._object = ConditionalObject(self._store.uri, self._name, self._content)
        self._write_claim(self._store)
        self._store.delete(waiting)

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
        start, claim = time.monotonic(), self._object
        if claim is None or not store.attempt(lambda files: claim.write()):
            store.write(self._name, self._content)
        self._renewed = start

    def _holder(self, name: str) -> str:
        try:
            content = json.loads(self._store.read(name) or b"")
            return f"process {content['pid']} on {content['host']} (since {content['started']})"
        except (ValueError, KeyError, TypeError):
            return "another process"

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
            except OtherWriterError:
                pass
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

    Before every write it lists the claims: the latest must be that of this driver. So also the
    process of Ray that writes rows, which gets a pickle of it, stops when another driver holds the
    run.

    Args:
        store: store of the run.
        claim: name of the claim of this driver.
    """

    def __init__(self, store: Store, claim: str) -> None:
        self._store, self._claim = store, claim
        self.read, self.entries = store.read, store.entries

    def __reduce__(self) -> tuple[Any, ...]:
        return LeasedStore, (self._store, self._claim)

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        self._store.write(name, content, self._refuse_if_lost)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        self._store.attempt(self._refuse_if_lost)
        self._store.delete(name)

    def _refuse_if_lost(self, files: fs.FileSystem) -> None:
        try:
            claims = self._store.listed(files, LOCK_NAME)
        except FileNotFoundError:
            claims = {}
        holders = filter(_HOLDER.fullmatch, claims)
        if max(holders, default=None) != self._claim:
            raise StoreError(
                "this driver's lease has expired, and another driver may hold the run; finished "
                "work is kept"
            )

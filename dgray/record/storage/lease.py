"""One driver a run in an object store: claims, each an object that its driver keeps young.

A driver writes a claim of its own, ``RUN/.lock/TOKEN.json``, then lists all claims; it holds the
run if no other's is alive. Stores list what was written before (S3 and Google's do), so of two
drivers that come at once at least one sees the other, and none sees itself alone wrongly: both
may be refused, both cannot hold. Nothing is needed but PUT and LIST. A claim is alive for
``LEASE_SECONDS`` after it was last written; ages are differences of the store's own times, so that
no clock of a driver matters. Knows the store.
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

from dgray.errors import RunRefusedError, StoreError
from dgray.record.run_lock import LOCK_NAME
from dgray.record.storage.store import Entry, Store

LEASE_SECONDS = 90.0
RENEW_SECONDS = 15.0
POLL_SECONDS = 2.0


class Lease:
    """Holds a run from construction to ``release``, or until it was not renewed for too long."""

    def __init__(
        self, store: Store, tell: Callable[[str], None], on_lost: Callable[[], None]
    ) -> None:
        """Take the lease, waiting for that of a driver that may have died.

        Args:
            store: of the run.
            tell: is told, in words, that it waits.
            on_lost: called from another thread when the run is no longer this driver's.

        Raises:
            RunRefusedError: another driver has it; names it.
            StoreError: the store fails.
        """
        self._store = store
        self._name = f"{LOCK_NAME}/{secrets.token_hex(8)}.json"
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._on_lost = on_lost
        self.is_lost = False
        self._renewed = time.monotonic()
        self._ends = threading.Event()
        try:
            self._take(tell)
        except BaseException:
            with contextlib.suppress(StoreError):  # it ends by itself
                store.once().delete(self._name)
            raise
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let another driver have the run."""
        self._ends.set()
        self._thread.join()
        with contextlib.suppress(StoreError):  # it ends by itself
            self._store.once().delete(self._name)

    def _take(self, tell: Callable[[str], None]) -> None:
        """Claim, and wait until no other claim is alive; refused once another is renewed."""
        seen: dict[str, int] = {}
        while alive := self._others():
            for name, claim in alive.items():
                if seen.get(name, claim.modified) != claim.modified:
                    raise RunRefusedError(
                        f"{self._store.uri}: one driver at a time may write a run, and "
                        f"{self._holder(name)} is at it; wait for it, end it, or give another "
                        f"place with --out"
                    )
            if not seen:
                tell(
                    f"{self._store.uri}: {self._holder(next(iter(alive)))} was at it; waiting to "
                    f"see whether it still lives, at most {LEASE_SECONDS:.0f} s"
                )
            seen |= {name: claim.modified for name, claim in alive.items()}
            time.sleep(POLL_SECONDS)

    def _others(self) -> Mapping[str, Entry]:
        """Claims of others that are alive by the store's clock; others are removed."""
        self._claim(self._store)
        claims = self._store.entries(LOCK_NAME)
        if self._name not in claims:
            raise StoreError(
                f"{self._store.uri}: the store does not list what was just written, so that two "
                "drivers could not be told apart; give another place with --out"
            )
        now = claims.pop(self._name).modified
        alive = {n: c for n, c in claims.items() if now - c.modified < LEASE_SECONDS * 1e9}
        for name in claims.keys() - alive.keys():
            self._store.delete(name)
        return alive

    def _claim(self, store: Store) -> None:
        content = {"pid": os.getpid(), "host": socket.gethostname(), "started": self._started}
        start = time.monotonic()
        store.write(self._name, json.dumps(content).encode() + b"\n")
        self._renewed = start

    def _holder(self, name: str) -> str:
        content = json.loads(self._store.read(name) or b"{}")
        if not content:
            return "another process"
        return f"process {content['pid']} on {content['host']} (since {content['started']})"

    def _keep(self) -> None:
        """Renew until released; once it is lost, say so and end."""
        store = self._store.once()
        while not self._ends.wait(RENEW_SECONDS):
            try:
                # One that was removed is another's by now: it is not to be made again.
                is_held = store.entry(self._name) is not None
                if is_held and time.monotonic() - self._renewed < LEASE_SECONDS:
                    self._claim(store)
                    continue
            except OSError:
                if time.monotonic() - self._renewed < LEASE_SECONDS:
                    continue
            if not self._ends.is_set():
                self.is_lost = True
                self._on_lost()
            return

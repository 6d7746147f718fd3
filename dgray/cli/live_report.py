"""A report that follows a running study, on a page of this machine.

The run is only read: its records are copied to a temporary folder, in which the report is made,
with low priority and pauses that keep its share of one CPU below a tenth. ``python -m
dgray.cli.live_report`` is the process that ``dgray run --serve`` starts beside the run; it ends
with its standard input, also if the run is killed.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Never

from dgray.cli.report_server import ReportServer, address, listening_socket, new_token
from dgray.errors import DgrayError, NoRowsError, NotARunError, RecordError, StoreError
from dgray.record.planned import read_planned
from dgray.record.provenance import read_provenance
from dgray.record.run_files import LOCK_FILE, RunFiles
from dgray.record.run_lock import RunLock, is_locked
from dgray.record.storage.location import Uri, location
from dgray.record.storage.working_copy import GrowingCopy
from dgray.record.tables import trial_and_epoch
from dgray.reporting.explorer.library import allow_script

_POLL_SECONDS, _POLL_STORE_SECONDS = 1.0, 10.0
_PAUSE = 9  # after a report, in multiples of the time that it took
_NICENESS = 10
_END_SECONDS = 10.0  # for the process beside a run to end
_PLACEHOLDER = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>dgray</title></head>
<body style="font: 16px sans-serif; margin: 3rem; color-scheme: light dark">
<p>There are no rows yet. This page shows the report as soon as the first checkpoint is complete.
</p></body></html>"""
_STATUS_LINE = """
<div id="live" role="status" aria-live="polite" style="position: fixed; right: 1rem; bottom: 1rem;
  padding: .4rem .8rem; border-radius: .4rem; background: #202225; color: #e9e7e3; font: 14px
  sans-serif; z-index: 99; max-width: 90vw"></div>
"""
_FOLLOWING = """
"use strict";
(() => {
  const shown = VERSION, line = document.querySelector("#live"), key = "dgray-live-scroll";
  let touched = 0;  // time of the last input: the page is not replaced under the reader's hands
  for (const name of ["pointerdown", "keydown", "wheel"])
    addEventListener(name, () => { touched = Date.now(); }, {passive: true});
  const place = sessionStorage.getItem(key);
  if (place !== null) { sessionStorage.removeItem(key); scrollTo(0, Number(place)); }
  async function poll() {
    try {
      const state = await (await fetch("state.json", {cache: "no-store"})).json();
      line.textContent = state.text;
      if (state.version !== shown && Date.now() - touched > 3000) {
        sessionStorage.setItem(key, String(scrollY));
        location.reload();
        return;
      }
    } catch { line.textContent = "the server of this page has ended"; }
    setTimeout(poll, 1000);
  }
  poll();
})();
"""


class LiveReport:
    """Report of a run that grows, made again when there are new rows.

    Args:
        place: the run.
        server: shows the report.
        folder: temporary folder of the copy and the report.
        is_beside: whether the run is that of the process that started this one.
    """

    def __init__(
        self, place: Path | Uri, server: ReportServer, folder: Path, *, is_beside: bool
    ) -> None:
        self._place, self._server, self._is_beside = place, server, is_beside
        self._copy = GrowingCopy(place, folder)
        self._lock: RunLock | None = None
        self._version = 0
        self._made_at = ""
        self._is_outdated, self._earliest = False, 0.0  # monotonic time of the next report
        self._show(_PLACEHOLDER)

    def follow(self) -> Never:
        """Follow the run until KeyboardInterrupt."""
        while True:
            self.update()
            time.sleep(_POLL_SECONDS if isinstance(self._place, Path) else _POLL_STORE_SECONDS)

    def close(self) -> None:
        """Release the lock of the copy."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def update(self) -> None:
        """Copy what is new, and make the report again unless the last one was made just now."""
        problem = ""
        try:
            self._is_outdated |= self._copy.update()
            if self._is_outdated and time.monotonic() >= self._earliest:
                start = time.monotonic()
                self._make()
                self._is_outdated = False
                self._earliest = time.monotonic() + _PAUSE * (time.monotonic() - start)
        except (StoreError, OSError) as error:  # transient: the next update may succeed
            problem = f"the run cannot be read: {error}"
        except DgrayError as error:
            problem = str(error)
        self._server.state = {"version": self._version, "text": self._text(problem)}

    def _make(self) -> None:
        from dgray.reporting.build import build_report  # matplotlib: after the address is shown

        self._mark_running()
        try:
            build_report(self._copy.folder, where=self._place, has_events=False)
        except (NoRowsError, NotARunError):
            return
        self._made_at = datetime.now().strftime("%H:%M:%S")
        self._show((self._copy.folder / "report.html").read_text("utf-8"))

    def _show(self, page: str) -> None:
        self._version += 1
        script = _FOLLOWING.replace("VERSION", str(self._version))
        head, end, tail = allow_script(page, script).rpartition("</body>")
        content = f"{head}{_STATUS_LINE}<script>{script}</script>{end}{tail}"
        self._server.page = content.encode("utf-8", "backslashreplace")
        self._server.state = {"version": self._version, "text": self._text("")}

    def _mark_running(self) -> None:
        """Lock the copy while the run is locked, so that its session does not count as killed."""
        is_running = self._may_run()
        if is_running and self._lock is None:
            self._lock = RunLock(self._copy.folder)
        elif not is_running:
            self.close()

    def _text(self, problem: str) -> str:
        """Return the line of the page: progress, and the time of the report."""
        made = f"report of {self._made_at}" if self._made_at else "no report yet"
        return " · ".join(filter(None, [self._outcome(), self._progress(), made, problem]))

    def _progress(self) -> str:
        names = (name for name in self._copy.names if name.startswith("rows/"))
        done = sum(trial_and_epoch(Path(name).stem) is not None for name in names)
        try:
            planned = read_planned(RunFiles(self._copy.folder))
        except RecordError:
            planned = None
        is_known = planned is not None and not planned.num_searches
        total = sum(len(trial.epochs) for trial in planned.trials) if planned and is_known else 0
        return f"{done}{f' of {total}' if total else ''} checkpoints"

    def _outcome(self) -> str:
        sessions = read_provenance(RunFiles(self._copy.folder), is_running=True)["sessions"]
        last = sessions[-1] if sessions and isinstance(sessions[-1], dict) else {}
        outcome = str(last.get("outcome", ""))
        return "stopped" if outcome == "running" and not self._may_run() else outcome

    def _may_run(self) -> bool:
        """Return False if no process writes the run; that of a store is not visible here."""
        return self._is_beside or not isinstance(self._place, Path) or is_locked(self._place)


def watch(run: str, port: int) -> int:
    """Show the live report of a run until Ctrl-C; return exit status 0."""
    place = location(run)
    if isinstance(place, Path) and not (place / LOCK_FILE).is_file():
        raise NotARunError(
            f"{run}: a run folder has a {LOCK_FILE}, but this one has none; give the folder of a "
            "run that has started"
        )
    listener, token = listening_socket(port), new_token()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may ignore the first for its jobs
        signal.signal(number, signal.default_int_handler)
    try:
        print(f"live report: {address(listener, token)} (Ctrl-C ends it)", flush=True)
        serve(place, listener, token)
    except KeyboardInterrupt:
        print("live report ended; the run is unchanged")
    return 0


def serve(
    place: Path | Uri, listener: socket.socket, token: str, *, is_beside: bool = False
) -> None:
    """Serve the live report of a run until KeyboardInterrupt; see ``LiveReport``."""
    os.nice(_NICENESS)
    with tempfile.TemporaryDirectory(prefix="dgray-live-", ignore_cleanup_errors=True) as folder:
        name = place.resolve().name if isinstance(place, Path) else place.name
        copy = Path(folder) / (name or "run")
        with ReportServer(listener, token, copy) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                with closing(LiveReport(place, server, copy, is_beside=is_beside)) as live:
                    live.follow()
            finally:
                server.shutdown()


@contextmanager
def served_beside(folder: Path) -> Iterator[None]:
    """Serve the live report of a run from a process of its own while the block runs."""
    listener, token = listening_socket(), new_token()
    with listener:
        request = {"place": str(folder.resolve()), "fd": listener.fileno(), "token": token}
        process = subprocess.Popen(
            [sys.executable, "-m", "dgray.cli.live_report"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the run, whose end is the end of this one
        )
        print(f"live report: {address(listener, token)}", flush=True)
    assert process.stdin is not None
    try:
        process.stdin.write(f"{json.dumps(request)}\n".encode())
        process.stdin.flush()
        yield
    finally:
        with suppress(BrokenPipeError):  # it has ended already
            process.stdin.close()
        try:
            process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _beside(request: dict[str, Any]) -> None:
    def wait_for_end() -> None:
        sys.stdin.read()
        _thread.interrupt_main()  # also while a report is made

    # interrupt_main does nothing where a shell has set its jobs to ignore the signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=wait_for_end, daemon=True).start()
    listener = socket.socket(fileno=request["fd"])
    with suppress(KeyboardInterrupt):
        serve(Path(request["place"]), listener, request["token"], is_beside=True)


if __name__ == "__main__":
    _beside(json.loads(sys.stdin.readline()))

"""Pytest plugin: tests marked ``ray`` or ``apart`` run in processes of their own.

There is one child for each name in marks ``apart(name, seconds)``, and one for all tests marked
``ray``, which share a Ray; those also marked ``long`` have one for each module. Children run
beside the tests of this process, the longest first: as many as there are CPUs, one more beside
the tests that share a Ray, which mostly wait, and one more when those of this process are done.
When a Ray dies, it may end the process that started it, unflushed. With this plugin that is one
failed test with a reason; the remaining tests of that child run in a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_REPORTS = "DGRAY_TEST_REPORTS"  # environment variable of a child: the file for its reports
_SHARED = "ray"  # name of the group of tests that share a Ray
_POLL_SECONDS = 0.02
_SHOWN_CHARACTERS = 5000  # of a child's own output
_RAY_SECONDS = 10  # that a test takes


def is_child() -> bool:
    """Return True in a process of the plugin."""
    return _REPORTS in os.environ


def register(config: pytest.Config, options: Sequence[str]) -> None:
    """Register the plugin; values of the command-line ``options`` are passed to children."""
    reports = os.environ.get(_REPORTS)
    if reports is not None:
        config.pluginmanager.register(_Reporter(config, Path(reports)))
    elif not config.getoption("usepdb"):
        config.pluginmanager.register(_RayProcesses(config, options))


class _Reporter:
    """In a child: writes each report to a file as soon as it is made."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config, self._path = config, path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"started": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        self._write(hook.pytest_report_to_serializable(config=self._config, report=report))

    def _write(self, message: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")


class _RayProcesses:
    """In the parent: runs marked tests in children, and reports them after all others."""

    def __init__(self, config: pytest.Config, options: Sequence[str]) -> None:
        self._config, self._options = config, options
        self._messages: dict[str, queue.SimpleQueue[dict[str, Any] | _Crash]] = {}  # by nodeid
        self._groups: queue.SimpleQueue[list[str]] = queue.SimpleQueue()  # nodeids, not begun
        self._children: set[_Child] = set()
        self._is_alone = False
        self._is_over = False
        self._threads: list[threading.Thread] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Last, so that no fixture of this process has to be torn down between two of them.
        items.sort(key=_is_isolated)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        items = [item for item in session.items if _is_isolated(item)]
        if items and not self._config.option.collectonly:
            self._messages = {item.nodeid: queue.SimpleQueue() for item in items}
            groups: dict[Path | str, list[pytest.Item]] = {}
            for item in items:
                groups.setdefault(self._group(item), []).append(item)
            for group in sorted(groups.values(), key=_seconds, reverse=True):  # the longest first
                self._groups.put([item.nodeid for item in group])
            for _ in range(len(os.sched_getaffinity(0)) + (_SHARED in groups)):
                self._start_thread()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not _is_isolated(item):
            return None
        if not self._is_alone:  # the tests of this process are done
            self._is_alone = True
            self._start_thread()
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        self._is_over = True
        for child in list(self._children):
            child.kill()
        for thread in self._threads:
            thread.join()

    def _group(self, item: pytest.Item) -> Path | str:
        """Return what the tests of one child share: a name or a module."""
        mark = item.get_closest_marker("apart")
        if mark is not None and not _uses_ray(item):
            return str(mark.args[0])
        return _SHARED if item.get_closest_marker("long") is None else item.path

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        while True:
            message = self._next_message(item.nodeid)
            if isinstance(message, _Crash):
                yield message.report(item)
                return
            report = self._config.hook.pytest_report_from_serializable(
                config=self._config, data=message
            )
            if isinstance(report.longrepr, list):  # JSON has no tuples: file, line, reason
                report.longrepr = tuple(report.longrepr)
            yield report
            if report.when == "teardown":
                return

    def _next_message(self, nodeid: str) -> dict[str, Any] | _Crash:
        while True:
            try:
                return self._messages[nodeid].get(timeout=1)
            except queue.Empty:
                if not any(thread.is_alive() for thread in self._threads):
                    return _Crash(False, "an error in tests/ray_processes.py", "")

    def _run(self) -> None:
        """Run the children of groups that are not begun, one after the other."""
        while True:
            try:
                nodeids = self._groups.get_nowait()
            except queue.Empty:
                return
            while nodeids and not self._is_over:
                child = _Child(self._config, nodeids, self._options)
                self._children.add(child)
                if self._is_over:
                    child.kill()
                try:
                    nodeids = self._forward(child, nodeids)
                finally:
                    child.close()
                    self._children.discard(child)

    def _forward(self, child: _Child, nodeids: list[str]) -> list[str]:
        """Pass on a child's messages; return the tests that are left after a crash."""
        for message in child.messages():
            if "started" in message:
                continue
            self._messages[message["nodeid"]].put(message)
            if message.get("when") == "teardown":
                nodeids = nodeids[1:]
                if not nodeids:
                    return []
        self._messages[nodeids[0]].put(_Crash(child.is_running_test, child.end(), child.output()))
        return nodeids[1:]


@dataclass(frozen=True)
class _Crash:
    """End of a child before all its tests were done."""

    is_running_test: bool
    end: str
    output: str

    def report(self, item: pytest.Item) -> pytest.TestReport:
        file, _, name = item.nodeid.partition("::")
        when = "while" if self.is_running_test else "before"
        ran = "ran" if self.is_running_test else "started"
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed",
            longrepr=f"the process of {file} ended with {self.end} {when} {name} {ran}",
            when="call",
            sections=[("Output of the process", self.output)],
        )


class _Child:
    """A pytest process that runs some tests and reports them one by one."""

    def __init__(
        self, config: pytest.Config, nodeids: Sequence[str], options: Sequence[str]
    ) -> None:
        self.nodeids = nodeids
        self.is_running_test = False
        self._folder = tempfile.TemporaryDirectory(prefix="dgray-test-process-")
        self._output = Path(self._folder.name) / "output"
        reports = Path(self._folder.name) / "reports"
        reports.touch()
        self._reports = reports.open(encoding="utf-8")
        capture = config.getoption("capture")
        passed_on = {"--capture": capture, "--tb": config.getoption("tbstyle")}
        passed_on |= {name: config.getoption(name) for name in options}
        values = [f"{name}={value}" for name, value in passed_on.items() if value is not None]
        quiet = ("-q", "--no-header", "-p", "no:cacheprovider", "-m", "")
        environment = {n: v for n, v in os.environ.items() if n != "PYTEST_ADDOPTS"}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *quiet, *values, *nodeids],
                cwd=config.rootpath,
                env={**environment, _REPORTS: str(reports)},
                stdout=None if capture == "no" else output,
                stderr=None if capture == "no" else subprocess.STDOUT,
                start_new_session=True,
            )

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield messages as they are written, until the process has ended."""
        line = ""
        while True:
            has_ended = self._process.poll() is not None
            line += self._reports.readline()
            if line.endswith("\n"):
                message: dict[str, Any] = json.loads(line)
                self.is_running_test = message.get("when") != "teardown"
                line = ""
                yield message
            elif has_ended:
                return
            else:
                time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """End the process and all that it has started; Ray's servers are in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for the process if it is about to end, and end all that it has left running."""
        if not self.is_running_test:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=60)
        self.kill()
        self._process.wait()
        self._reports.close()
        self._folder.cleanup()

    def end(self) -> str:
        """Return how the process ended, in words."""
        status = self._process.wait()
        if status >= 0:
            return f"status {status}"
        return f"signal {-status} ({signal.Signals(-status).name})"

    def output(self) -> str:
        """Return the end of what the process itself wrote to stdout and stderr."""
        return self._output.read_text("utf-8", errors="replace")[-_SHOWN_CHARACTERS:]


def _uses_ray(item: pytest.Item) -> bool:
    return item.get_closest_marker("ray") is not None


def _seconds(group: list[pytest.Item]) -> float:
    """Return an estimate of the time that the tests of a group take."""
    mark = group[0].get_closest_marker("apart")
    if mark is not None and not _uses_ray(group[0]):
        return float(mark.kwargs.get("seconds", 0))
    return sum(map(_seconds_of_ray, group))


def _seconds_of_ray(item: pytest.Item) -> float:
    long = item.get_closest_marker("long")
    return _RAY_SECONDS if long is None else 60 * float(long.kwargs.get("minutes", 1))


def _is_isolated(item: pytest.Item) -> bool:
    return _uses_ray(item) or item.get_closest_marker("apart") is not None

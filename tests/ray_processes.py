"""Pytest plugin: tests marked ``ray`` run in a process of their own, one process for each module.

When a Ray dies, it may end the process that started it, unflushed. With this plugin that is one
failed test with a reason; the module's remaining tests run in a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

_REPORTS = "DGRAY_TEST_REPORTS"  # environment variable of a child: the file for its reports
_POLL_SECONDS = 0.02
_SHOWN_CHARACTERS = 5000  # of a child's own output


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
    """In the parent: runs tests marked ``ray`` after all others, each module in a child."""

    def __init__(self, config: pytest.Config, options: Sequence[str]) -> None:
        self._config, self._options = config, options
        self._child: _Child | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Last, so that no fixture of this process has to be torn down between two of them.
        items.sort(key=_is_isolated)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not _is_isolated(item):
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        if self._child is not None:
            self._child.close()

    def _reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        if self._child is None or item.nodeid not in self._child.nodeids:
            self.pytest_unconfigure()
            items = item.session.items
            of_module = [i for i in items[items.index(item) :] if i.path == item.path]
            nodeids = [i.nodeid for i in of_module if _is_isolated(i)]
            self._child = _Child(self._config, nodeids, self._options)
        child = self._child
        for message in child.messages():
            if "started" not in message:
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=message
                )
                if isinstance(report.longrepr, list):  # JSON has no tuples: file, line, reason
                    report.longrepr = tuple(report.longrepr)
                yield report
                if report.when == "teardown":
                    break
        else:
            yield _crash_report(item, child)
            child.close()
            self._child = None
            return
        if item.nodeid == child.nodeids[-1]:
            child.close()
            self._child = None


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

    def close(self) -> None:
        """Wait for the process if it is about to end, and end all that it has left running."""
        try:
            if not self.is_running_test:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # Ray's servers are in its group
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


def _is_isolated(item: pytest.Item) -> bool:
    return item.get_closest_marker("ray") is not None


def _crash_report(item: pytest.Item, child: _Child) -> pytest.TestReport:
    file, _, name = item.nodeid.partition("::")
    when = "while" if child.is_running_test else "before"
    ran = "ran" if child.is_running_test else "started"
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=f"the process of {file} ended with {child.end()} {when} {name} {ran}",
        when="call",
        sections=[("Output of the process", child.output())],
    )

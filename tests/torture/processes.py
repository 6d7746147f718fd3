"""Processes of one driver: the kind of each, and which are left after its end.

Considered are only descendants of a driver that was started here, and processes with its mark in
their environment or arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "DGRAY_TORTURE"
# Kinds of processes by the start of the title that Ray gives them.
TITLES = {
    "ray::ImplicitFunc": "trial worker",
    "ray::_Sampler": "sampling actor",
    "ray::RunFolder": "sink",
    "ray::_ArtifactWorker": "artifact worker",
    "ray::DashboardAgent": "agent",
    "ray::RuntimeEnvAgent": "agent",
}
FATAL = ("driver", "raylet", "gcs", "agent")  # the driver ends with these


def kind_of(process: psutil.Process) -> str | None:
    """Return the kind of a process; None if it has ended or is of no kind to be killed."""
    with contextlib.suppress(psutil.Error):
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        name = process.name()
        if name in ("raylet", "gcs_server"):
            return name.removesuffix("_server")
        title = " ".join(process.cmdline())
        return next((kind for start, kind in TITLES.items() if title.startswith(start)), None)
    return None


def family(driver: psutil.Process) -> list[psutil.Process]:
    """Return the driver and its present descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [driver, *driver.children(recursive=True)]
    return []


def by_kind(driver: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Return the processes that may be killed, by kind."""
    processes: dict[str, list[psutil.Process]] = {"driver": [driver]}
    for process in family(driver)[1:]:
        kind = kind_of(process)
        if kind is not None:
            processes.setdefault(kind, []).append(process)
    return processes


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def marked(mark: str) -> Iterator[psutil.Process]:
    """Yield every process with the mark, regardless of its parent."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if mark.encode() in environment or mark in " ".join(process.cmdline()):
                yield process

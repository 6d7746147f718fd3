"""The processes of one driver: what each is for, and which are left of it when it is gone.

Only descendants of a driver that was started here are ever looked at, and those that carry the
mark in their environment or arguments, which the driver was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "DGRAY_TORTURE"
# What a process is, by the start of the title that Ray gives it.
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
    """None: of no kind that is to be killed, or gone."""
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
    """The driver and all that descends from it now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [driver, *driver.children(recursive=True)]
    return []


def by_kind(driver: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Those that may be killed."""
    found: dict[str, list[psutil.Process]] = {"driver": [driver]}
    for process in family(driver)[1:]:
        kind = kind_of(process)
        if kind is not None:
            found.setdefault(kind, []).append(process)
    return found


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def marked(mark: str) -> Iterator[psutil.Process]:
    """Every process with the mark, whoever is its parent by now."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if mark.encode() in environment or mark in " ".join(process.cmdline()):
                yield process

"""Where rows come from: ``provenance.json`` with one entry per session of a run.

A session is one start of the driver. Environment variables are never recorded: they hold secrets.
Credentials inside addresses are struck out of whatever is.
Knows the standard library only.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import dgray
from dgray.credentials import without_credentials
from dgray.plan.plan import Plan

PROVENANCE_FILE = "provenance.json"
PACKAGES = (
    "torch",
    "numpy",
    "ray",
    "pydantic",
    "pyarrow",
    "pandas",
    "safetensors",
    "matplotlib",
    "tensorboard",
)


class Folder(Protocol):
    """The part of a run folder that provenance needs."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    def write_file(self, name: str, content: bytes) -> None:
        """Write ``name`` whole or not at all."""
        ...


class Session:
    """The entry of this session in ``provenance.json``; written at once and again at its end."""

    def __init__(self, folder: Folder, plan: Plan, arguments: Sequence[str], engine: str) -> None:
        """``arguments``: of ``python -m dgray.study``."""
        self._folder = folder
        self._record = _read(folder.path) | _study(plan)
        self._entry: dict[str, Any] = {
            "started_at": _now(),
            "finished_at": None,
            "outcome": "running",
            "command": shlex.join(["python", "-m", "dgray.study", *arguments]),
            "engine": engine,
            "num_workers": None,
            "where": None,
            "failures": {},
            "worker_losses": {},
            "retries": 0,
            "versions": _versions(),
            "git": _git(),
            "machine": _machine(),
        }
        self._record["sessions"] = [*self._record.get("sessions", []), self._entry]
        self._write()

    def engine_started(self, *, where: str, num_workers: int) -> None:
        """What the trials run on."""
        self._entry |= {"where": where, "num_workers": num_workers}
        self._write()

    def worker_lost(self, what: str, times: int) -> None:
        """Processes that died; what they were at (a trial's id, say) was done again."""
        losses = self._entry["worker_losses"]
        losses[what] = losses.get(what, 0) + times
        self._entry["retries"] += times
        self._write()

    def end(self, outcome: str, failures: Mapping[str, str]) -> None:
        """``outcome``: complete, incomplete or interrupted; ``failures``: trial -> reason."""
        self._entry |= {
            "finished_at": _now(),
            "outcome": outcome,
            "failures": dict(failures),
        }
        self._write()

    def _write(self) -> None:
        text = json.dumps(_struck_out(self._record), indent=2, ensure_ascii=False)
        self._folder.write_file(PROVENANCE_FILE, text.encode() + b"\n")


def _study(plan: Plan) -> dict[str, Any]:
    """What all sessions have in common."""
    config = plan.trials[0].config
    return {
        "study": plan.study.name,
        "seed": config.seed,
        "replicates": config.replicates,
        "threads_per_trial": config.resources.cpus_per_trial,
        "gpus_per_trial": config.resources.gpus_per_trial,
        "device": config.resources.device,
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE_FILE
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return record


def _struck_out(value: Any) -> Any:
    """The same record without credentials, which commands and reasons of failures may hold."""
    match value:
        case str():
            return without_credentials(value)
        case list():
            return [_struck_out(entry) for entry in value]
        case dict():
            return {name: _struck_out(entry) for name, entry in value.items()}
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "dgray": dgray.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that dgray was imported from, or None if it is no checkout."""
    checkout = Path(dgray.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    commit = _run("git", "-C", str(checkout), "rev-parse", "HEAD")
    status = _run("git", "-C", str(checkout), "status", "--porcelain")
    return {"commit": commit, "is_dirty": status != ""}


def _machine() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "gpus": _gpus(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _gpus() -> list[str]:
    """Names of NVIDIA devices, from the driver: asking torch would take memory on each."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Provenance of a run: ``provenance.json`` with an entry for each session.

A session is one start of the driver. Environment variables are never recorded, because they can
hold secrets; credentials in addresses are removed from everything that is.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dgray
from dgray.credentials import without_credentials
from dgray.data.summary import DataSummary
from dgray.errors import RecordError
from dgray.record.run_files import PROVENANCE_FILE, RunFiles
from dgray.record.run_lock import is_locked
from dgray.record.seal import sealed_json

if TYPE_CHECKING:
    from dgray.plan.plan import Plan

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


class Session:
    """Entry of this session in ``provenance.json``, written at once and after every change.

    Args:
        files: files of the run.
        plan: plan of the study.
        arguments: arguments of ``python -m dgray.study``.
        engine: ``ray`` or ``local``.
    """

    def __init__(self, files: RunFiles, plan: Plan, arguments: Sequence[str], engine: str) -> None:
        self._files = files
        earlier = read_provenance(files, is_running=False)
        self._record = earlier | _study(plan)
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
            "damaged": [],
            "versions": _versions(),
            "git": _git(),
            "machine": _machine(),
        }
        self._record["sessions"] = [*earlier["sessions"], self._entry]
        self._write()

    def engine_started(self, *, where: str, num_workers: int) -> None:
        """Record what the trials run on."""
        self._entry |= {"where": where, "num_workers": num_workers}
        self._write()

    def data_read(self, summaries: Sequence[DataSummary]) -> None:
        """Record what was read of the data of the study."""
        self._record["data"] = [summary.to_json() for summary in summaries]
        self._write()

    def artifacts_made(self, keys: Iterable[str]) -> None:
        """Record the shared artifacts that the run holds."""
        self._record["artifacts"] = sorted({*artifacts_of(self._files), *keys})
        self._write()

    def worker_lost(self, task: str, times: int) -> None:
        """Record processes that died; ``task``: their work, such as a trial, which is repeated."""
        losses = self._entry["worker_losses"]
        losses[task] = losses.get(task, 0) + times
        self._entry["retries"] += times
        self._write()

    def damaged(self, records: Sequence[str]) -> None:
        """Record damaged records, with the reasons; they are computed again."""
        if records:
            self._entry["damaged"] += records
            self._write()

    def end(self, outcome: str, failures: Mapping[str, str]) -> None:
        """Record the end of the session.

        Args:
            outcome: complete, incomplete, interrupted or crashed; a later session writes
                killed for one that could not record its end.
            failures: reason of each failed trial, by id.
        """
        self._entry |= {
            "finished_at": _now(),
            "outcome": outcome,
            "failures": dict(failures),
        }
        self._write()

    def _write(self) -> None:
        record = _redacted(self._record)
        self._files.write_record(PROVENANCE_FILE, partial(sealed_json, record))


def read_provenance(files: RunFiles, *, is_running: bool | None = None) -> dict[str, Any]:
    """Return the content of ``provenance.json``; only ``sessions``, empty, if it is damaged.

    The outcome of a session that was killed is ``killed``: it could not write one.

    Args:
        files: files of the run.
        is_running: whether the last session may be running; None: if the run is locked.
    """
    try:
        record = files.read_json(PROVENANCE_FILE) or {}
    except RecordError as error:
        files.leave_out(PROVENANCE_FILE, error)
        record = {}
    sessions = record.get("sessions")
    sessions = sessions if isinstance(sessions, list) else []
    if is_running is None:
        is_running = files.mirror is not None or is_locked(files.path)
    ended = sessions[:-1] if is_running else sessions
    for session in ended:
        if isinstance(session, dict) and session.get("outcome") == "running":
            session["outcome"] = "killed"
    return record | {"sessions": sessions}


def last_outcome(files: RunFiles) -> str:
    """Return the outcome of the last session; empty if it is not recorded."""
    sessions = read_provenance(files)["sessions"]
    last = sessions[-1] if sessions else {}
    return str(last.get("outcome", "")) if isinstance(last, dict) else ""


def artifacts_of(files: RunFiles) -> list[str]:
    """Return the keys of the shared artifacts that ``provenance.json`` lists."""
    try:
        keys = (files.read_json(PROVENANCE_FILE) or {}).get("artifacts")
    except RecordError:
        return []
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _study(plan: Plan) -> dict[str, Any]:
    """Return the entries that all sessions share."""
    config = plan.trials[0].config
    return {
        "study": plan.study.name,
        "seed": config.seed,
        "replicates": config.replicates,
        "threads_per_trial": config.resources.cpus_per_trial,
        "gpus_per_trial": config.resources.gpus_per_trial,
        "device": config.resources.device,
    }


def _redacted(value: Any) -> Any:
    """Return a copy without credentials, which commands and reasons of failures may hold."""
    match value:
        case str():
            return without_credentials(value)
        case list():
            return [_redacted(entry) for entry in value]
        case dict():
            return {name: _redacted(entry) for name, entry in value.items()}
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "dgray": dgray.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git() -> dict[str, Any] | None:
    """Return the commit of the checkout that dgray was imported from, or None if installed."""
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
    """Return the names of NVIDIA devices from the driver; torch would allocate memory on each."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

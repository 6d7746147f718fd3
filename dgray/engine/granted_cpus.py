"""Number of CPUs granted to this process, which may be fewer than those of the machine.

Batch systems and containers restrict a process by its CPU affinity, by quotas of control groups
(versions 1 and 2), or only by environment variables (SLURM). Imports no Ray.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# CPUs of one task, and those of the job on this node.
_SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def granted_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    Args:
        root: folder that contains ``proc`` and ``sys``; tests replace it.
    """
    return max(1, int(min(_num_in_affinity(), *_quotas(root), *_slurm_limits())))


def _num_in_affinity() -> float:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slurm_limits() -> Iterator[float]:
    for name in _SLURM:
        with contextlib.suppress(ValueError):
            if (number := int(os.environ.get(name, ""))) > 0:
                yield number
    yield float("inf")


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas of this process's control groups and of all groups above them."""
    for folder in _group_folders(root):
        with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" without a quota
            quota, period = map(int, (folder / "cpu.max").read_text("ascii").split())
            yield quota / period
        with contextlib.suppress(OSError, ValueError):  # version 1: -1 without a quota
            quota = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
            period = int((folder / "cpu.cfs_period_us").read_text("ascii"))
            if quota > 0:
                yield quota / period


def _group_folders(root: Path) -> Iterator[Path]:
    mounts = root / "sys" / "fs" / "cgroup"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc" / "self" / "cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                mount_names = ("", "unified")
            elif "cpu" in controllers.split(","):
                mount_names = (controllers, "cpu")
            else:
                continue
            # In a container, the path may be that of the host; the mount itself is the group.
            groups = (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents)
            yield from (mounts / name / group for name in mount_names for group in groups)

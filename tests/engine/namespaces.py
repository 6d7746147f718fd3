"""Machines for a test: network namespaces joined by a bridge, with disks of their own.

They share no network interface with each other or this machine, and no disk at the paths
``private``. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

SUBNET = "10.77.0"  # inside the namespaces only


def can_be_made() -> bool:
    """Return whether this process may create namespaces."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--net", "--mount", "true"], check=False).returncode == 0


def address(index: int) -> str:
    """Return the address of a machine."""
    return f"{SUBNET}.{index + 1}"


@contextlib.contextmanager
def machines(prefix: str, count: int) -> Iterator[None]:
    """Create namespaces PREFIX0, PREFIX1, ...; their processes end with the block."""
    made = []
    try:
        for index in range(count):
            _run("ip", "netns", "add", f"{prefix}{index}")
            made.append(f"{prefix}{index}")
            _run("ip", "-n", made[-1], "link", "set", "lo", "up")
        _run("ip", "-n", made[0], "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", made[0], "addr", "add", f"{address(0)}/24", "dev", "bridge")
        _run("ip", "-n", made[0], "link", "set", "bridge", "up")
        # It leads nowhere, but Ray finds its own address from the default route.
        _run("ip", "-n", made[0], "route", "add", "default", "dev", "bridge")
        for index in range(1, count):
            _connect(made[0], made[index], index)
        yield
    finally:
        for name in made:
            kill_all(name)
            _run("ip", "netns", "del", name)


def _connect(hub: str, name: str, index: int) -> None:
    """Connect a namespace to the bridge, with neither end in the outer network."""
    cable = ["type", "veth", "peer", "name", "eth0", "netns", name]
    _run("ip", "-n", hub, "link", "add", f"port{index}", *cable)
    _run("ip", "-n", hub, "link", "set", f"port{index}", "master", "bridge", "up")
    _run("ip", "-n", name, "addr", "add", f"{address(index)}/24", "dev", "eth0")
    _run("ip", "-n", name, "link", "set", "eth0", "up")


def inside(name: str, command: Sequence[str], private: Sequence[Path]) -> list[str]:
    """Return ``command`` in a namespace with an empty disk at each of ``private``."""
    # ``ip netns exec`` gives the command a mount namespace of its own.
    mounts = [f"mount -t tmpfs none {shlex.quote(str(path))}" for path in private]
    script = " && ".join([*mounts, f"exec {shlex.join(command)}"])
    return ["ip", "netns", "exec", name, "sh", "-c", script]


def kill_all(name: str) -> None:
    """Kill every process in a namespace, as a power failure does."""
    while pids := _run("ip", "netns", "pids", name).split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

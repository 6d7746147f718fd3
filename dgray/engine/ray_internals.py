"""The private parts of Ray that dgray needs, in one place, each with the reason.

Ray has no public interface for any of them. Tested with Ray 2.60; a test of each fails if a later
version moves it.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray._private.state import actors as actor_table


@contextlib.contextmanager
def single_machine() -> Iterator[None]:
    """Let ``ray.init`` inside the block bind its servers to the loopback interface.

    Ray does so only where it supports no cluster; otherwise it replaces
    ``_node_ip_address="127.0.0.1"`` by the machine's outer address.
    """
    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextlib.contextmanager
def without_sigterm_handler() -> Iterator[None]:
    """Keep ``ray.init`` from installing its SIGTERM handler, which ends the driver silently."""
    with _replaced(ray_utils, "set_sigterm_handler", lambda handler: None):
        yield


@contextlib.contextmanager
def without_raylet_messages() -> Iterator[None]:
    """Keep ``ray.init`` from starting the thread that prints the errors of workers to stdout.

    ``log_to_driver=False`` does not; the reason of a lost worker is in its failed rows.
    """
    with _replaced(ray_worker, "listen_error_messages", lambda worker, threads_stopped: None):
        yield


def server_processes() -> dict[str, subprocess.Popen[bytes]]:
    """Return the raylet and the GCS server that this process started, by name, if any."""
    node: Any = ray_worker._global_node
    processes = {} if node is None else node.all_processes
    names = [name for name in ("raylet", "gcs_server") if name in processes]
    return {name: processes[name][0].process for name in names}


def num_restarts(actor: Any) -> int:
    """Return how many times Ray has restarted an actor, or 0 if that is unknown.

    The public ``ray.util.state.get_actor`` needs the dashboard, which dgray does not start.
    """
    try:
        return int(actor_table(actor._actor_id.hex()).get("NumRestarts", 0))
    except Exception:  # a count for the record must not end a study that succeeded
        return 0


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)

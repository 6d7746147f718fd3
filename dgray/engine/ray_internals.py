"""The private parts of Ray that dgray needs, in one place, each with the reason.

Ray has no public interface for any of them. Tested with Ray 2.60; a test of each fails if a later
version moves it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

from ray import _raylet
from ray._private import ray_constants, services
from ray._private import worker as ray_worker
from ray._private.authentication.authentication_token_setup import (
    ensure_token_if_auth_enabled,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.state import actors as actor_table
from ray.tune.execution import class_cache

_compiled: Any = _raylet  # without type hints
# RFC 9113: each side begins with a frame of settings, the client after a fixed text.
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_HEADER = 9  # bytes of a frame's header; the fourth is its type
_HTTP2_SETTINGS = bytes([4])


@contextlib.contextmanager
def single_machine() -> Iterator[None]:
    """Let ``ray.init`` inside the block bind its servers to the loopback interface.

    Ray does so only where it supports no cluster; otherwise it replaces
    ``_node_ip_address="127.0.0.1"`` by the machine's outer address.
    """
    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextlib.contextmanager
def without_raylet_messages() -> Iterator[None]:
    """Keep ``ray.init`` from starting the thread that prints the errors of workers to stdout.

    ``log_to_driver=False`` does not; the reason of a lost worker is in its failed rows.
    """
    with _replaced(ray_worker, "listen_error_messages", lambda worker, threads_stopped: None):
        yield


@contextlib.contextmanager
def without_driver_variables(kept: frozenset[str]) -> Iterator[None]:
    """Keep Tune from copying variables of the driver, except ``kept``, to the workers of trials.

    It copies ``AWS_SECRET_ACCESS_KEY`` and others into the runtime environment, which Ray writes
    to its logs.
    """
    with _replaced(class_cache, "ENV_VARS_TO_PROPAGATE", kept):
        yield


def reach_cluster(address: str, seconds: int) -> None:
    """Return if a Ray answers at ``address`` and has a node on this machine.

    ``ray.init`` would wait for minutes. Waits in C++ code until there is an answer.

    Args:
        address: HOST:PORT or ``auto``.
        seconds: time to find the node after the answer.

    Raises:
        Exception: of several classes, if not.
    """
    if address == "auto":  # as in ray.init
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    place: Any = services.canonicalize_bootstrap_address(address)
    if os.environ.get("RAY_USE_TLS", "0") != "1":
        _greet(services.extract_ip_port(place))
    client = _compiled.GcsClient(address=place)
    services.get_node_to_connect_for_driver(client, timeout_seconds=seconds)


def _greet(server: tuple[str, int]) -> None:
    """Check that a server answers in HTTP/2; for others Ray's C++ code would print warnings."""
    with socket.create_connection(server) as connection, connection.makefile("rb") as answer:
        connection.sendall(_HTTP2_GREETING)
        if answer.read(_HTTP2_HEADER)[3:4] != _HTTP2_SETTINGS:
            raise ConnectionError(
                "a server answers that is not Ray's, which has port 6379 if unset"
            )


def forget_token() -> None:
    """Make Ray read the authentication token again."""
    _compiled.AuthenticationTokenLoader.instance().reset_cache()


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

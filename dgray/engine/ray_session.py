"""The Ray on which a study runs: one that exists, or a new one that listens on loopback only.

A Ray that existed before is left as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray

import dgray
from dgray.engine import ray_internals
from dgray.errors import EngineError, RunRefusedError

_REASON = 300  # characters of Ray's own error message
_PACKAGE = Path(dgray.__file__).parent


@contextlib.contextmanager
def ray_session() -> Iterator[str]:
    """Be connected to Ray inside the block; the value describes that Ray.

    Raises:
        RunRefusedError: ``RAY_ADDRESS`` is that of a Ray client.
        EngineError: Ray cannot be started or reached.
    """
    if ray.is_initialized():
        yield "the Ray of this process"
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise RunRefusedError(
            f"RAY_ADDRESS={address}: rows are written where the driver runs, so the driver must "
            "be on a node of the cluster, not a Ray client; start the study there "
            "(ray exec, ray job submit, or ssh) with RAY_ADDRESS=auto"
        )
    token = Path.home() / ".ray" / "auth_token"
    had_token = token.exists()
    with _keep_signal_handlers(), ray_internals.without_raylet_messages():
        try:
            if address:
                _connect(address)
            else:
                _start()
        except Exception as error:  # Ray has no common class for these errors
            why = " ".join(str(error).split())[:_REASON] or type(error).__name__
            what = f"cannot connect to Ray at {address}" if address else "Ray did not start"
            raise EngineError(f"{what} ({why}); finished work is kept") from error
    if not had_token and token.exists():
        token.chmod(0o600)  # Ray 2.60 leaves it readable by everybody
    try:
        yield f"the Ray cluster at {address}" if address else "a Ray of its own on this machine"
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    # The package is sent along: workers run the driver's dgray, not one that is installed there.
    ray.init(
        address=address,
        runtime_env={"py_modules": [str(_PACKAGE)], "excludes": ["__pycache__"]},
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _start() -> None:
    # PYTHONPATH: workers import this checkout's dgray before an installed one. The other variable
    # is what Ray's servers read in place of the constant that ``single_machine`` replaces.
    path = os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    variables = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": path}
    with environment(variables), ray_internals.single_machine():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, the only way to some settings of Ray."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Undo what ``ray.init`` does to SIGTERM, so that the signal never ends the driver silently.

    Ray's handler in Python is not installed; that of its C++ part is replaced afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with ray_internals.without_sigterm_handler():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)

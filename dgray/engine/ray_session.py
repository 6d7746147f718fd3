"""The Ray a study runs on: the one that is there already, or one of its own, bound to loopback.

A Ray that was there is left as it was found. Knows Ray; not what a trial is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker

import dgray
from dgray.errors import EngineError, RunRefusedError

_REASON = 300  # characters of Ray's own words
_PACKAGE = Path(dgray.__file__).parent


@contextlib.contextmanager
def ray_session() -> Iterator[str]:
    """Be connected to Ray inside the block; the value says in words to which."""
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
    with _signals_kept(), _without_raylet_messages():
        try:
            if address:
                _connect(address)
            else:
                _start()
        except Exception as error:  # Ray has no class of its own for what may go wrong here
            why = " ".join(str(error).split())[:_REASON] or type(error).__name__
            what = f"cannot connect to Ray at {address}" if address else "Ray did not start"
            raise EngineError(f"{what} ({why}); what was finished is kept") from error
    if not had_token and token.exists():
        token.chmod(0o600)  # Ray 2.60 leaves it readable to everybody
    try:
        yield f"the Ray cluster at {address}" if address else "a Ray of its own on this machine"
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    # The package travels with the job: workers run the driver's dgray, not one installed there.
    ray.init(
        address=address,
        runtime_env={"py_modules": [str(_PACKAGE)], "excludes": ["__pycache__"]},
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _start() -> None:
    # PYTHONPATH: workers find this checkout's dgray before an installed one. The other variable is
    # how Ray is told that one machine is all there is: only then do its servers bind to loopback
    # (node_ip_address=127.0.0.1 alone is replaced by the machine's outer address).
    path = os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": path}
    with environment(alone), patch.object(ray_constants, "ENABLE_RAY_CLUSTER", new=False):
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that are set inside the block; Ray and Tune read some settings from there only."""
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
def _signals_kept() -> Iterator[None]:
    """Undo what ``ray.init`` does to SIGTERM: it would end the driver without a word.

    While Ray's servers start, its handler in Python is kept away; that of its C++ part, which
    comes when the driver connects, is replaced as soon as that is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with patch.object(ray_utils, "set_sigterm_handler", new=lambda handler: None):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _without_raylet_messages() -> contextlib.AbstractContextManager[Any]:
    """Start no thread that prints coloured lines into stdout when a worker dies.

    ``log_to_driver=False`` does not stop it; the reason of a lost worker is in its failed rows.
    """
    return patch.object(ray_worker, "listen_error_messages", new=lambda worker, stopped: None)

"""The Ray on which a study runs: one that exists, or a new one that listens on loopback only.

A Ray that existed before is left as it was. The files of a new one are in a private folder.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray

import dgray
from dgray.credentials import without_credentials
from dgray.engine import ray_internals
from dgray.engine.granted_cpus import granted_cpus
from dgray.engine.ray_thread import RayThread
from dgray.engine.temporary_folder import temporary_folder
from dgray.errors import EngineError, RunRefusedError

EXISTING = "the Ray of this process"  # started by the caller
_REASON = 300  # characters of Ray's own error message
_PACKAGE = Path(dgray.__file__).parent
# For a cluster to answer; after 5 s Ray's C++ code would print warnings of its own.
_ANSWER_SECONDS = 4.0
_NODE_SECONDS = 3  # to find the node of this machine
# The path of a socket has at most 107 bytes (103 on macOS); Ray appends, for example,
# "/session_2026-11-26_22-59-16_123456_1234567/sockets/plasma_store" to its folder.
_LONGEST_FOLDER = (103 if sys.platform == "darwin" else 107) - 64
_SHORT_PLACE = Path("/tmp")
_NAME = len("/dgray-ray-12345678/ray")


@contextlib.contextmanager
def ray_session() -> Iterator[str]:
    """Connect to Ray inside the block, and yield a description of that Ray.

    Raises:
        RunRefusedError: ``RAY_ADDRESS`` is that of a Ray client, or there is no place for Ray's
            temporary folder.
        EngineError: Ray cannot be started or reached.
    """
    if ray.is_initialized():
        yield EXISTING
        return
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if "://" in address:
        raise RunRefusedError(
            f"RAY_ADDRESS={without_credentials(address)}: must be HOST:PORT or auto. Rows are "
            "written where the driver runs, so the driver must be on a node of the cluster, not "
            "a Ray client; start the study there "
            "(ray exec, ray job submit, or ssh) with RAY_ADDRESS=auto"
        )
    if address not in ("", "local"):
        with RayThread(functools.partial(_connect, address)) as thread:
            if not thread.has_answered(_ANSWER_SECONDS):
                raise EngineError(_no_cluster(address, f"no answer for {_ANSWER_SECONDS:g} s"))
            thread.wait()
            if thread.error is not None:
                raise EngineError(_no_cluster(address, _reason(thread.error))) from thread.error
            yield f"the Ray cluster at {address}"
        return
    with (
        _ray_folder() as folder,
        _own_token(folder),
        RayThread(functools.partial(_start, folder)) as thread,
    ):
        thread.wait()
        if thread.error is not None:
            raise EngineError(
                f"Ray did not start ({_reason(thread.error)}); its logs are in {folder} until the "
                "next start; finished work is kept"
            ) from thread.error
        yield "a Ray of its own on this machine"


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"cannot connect to Ray at RAY_ADDRESS={address} ({reason}); finished work is kept. Start "
        "that cluster, run this command on one of its nodes, or unset RAY_ADDRESS to use this "
        "machine alone"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON] or type(error).__name__


def _connect(address: str, has_answered: threading.Event) -> None:
    ray_internals.reach_cluster(address, _NODE_SECONDS)
    has_answered.set()
    # The package is sent along: workers run the driver's dgray, not one that is installed there.
    ray.init(
        address=address,
        runtime_env={"py_modules": [str(_PACKAGE)], "excludes": ["__pycache__"]},
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _start(folder: Path, has_answered: threading.Event) -> None:
    # PYTHONPATH: workers import this checkout's dgray before an installed one. The other variable
    # is what Ray's servers read in place of the constant that ``single_machine`` replaces.
    path = os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    variables = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": path}
    with environment(variables), ray_internals.single_machine():
        ray.init(
            address="local",
            num_cpus=granted_cpus(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )


@contextlib.contextmanager
def _ray_folder() -> Iterator[Path]:
    """Create the private folder of a new Ray; return a path that is short enough for sockets.

    Raises:
        RunRefusedError: it cannot be created.
    """
    place = os.environ.get("RAY_TMPDIR")
    with contextlib.ExitStack() as stack:
        try:
            parent = Path(place) if place else Path(tempfile.gettempdir())
            parent.mkdir(parents=True, exist_ok=True)
            # Ray opens its own folder to all users, but not the one around it.
            folder = stack.enter_context(temporary_folder("ray", parent.absolute())) / "ray"
            folder.mkdir()
            if len(os.fsencode(folder)) > _LONGEST_FOLDER:
                short = stack.enter_context(temporary_folder("ray", _SHORT_PLACE)) / "ray"
                short.symlink_to(folder)
                folder = short
        except OSError as error:
            name = f"RAY_TMPDIR={place}" if place else f"temporary folder {error.filename or ''}"
            raise RunRefusedError(
                f"{name}: Ray needs a folder that can be written ({error.strerror or error}); set "
                f"RAY_TMPDIR to one (of at most {_LONGEST_FOLDER - _NAME} bytes if {_SHORT_PLACE} "
                "cannot be written)"
            ) from error
        yield folder


@contextlib.contextmanager
def _own_token(folder: Path) -> Iterator[None]:
    """Let a new Ray use a token of its own, unless the user has set one or turned tokens off.

    Ray would write one to the home folder, readable by everyone.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        yield
        return
    path = folder.parent / "token"
    with open(path, "x", encoding="ascii", opener=functools.partial(os.open, mode=0o600)) as file:
        file.write(secrets.token_hex(32))
    try:
        with environment({"RAY_AUTH_TOKEN_PATH": str(path)}):
            ray_internals.forget_token()
            yield
    finally:
        ray_internals.forget_token()


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
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

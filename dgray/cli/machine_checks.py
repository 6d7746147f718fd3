"""Checks of a machine: packages, devices, memory, Ray, weights, and places that are written."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import dgray
from dgray.catalogue import BASES, DATA, FEATURES
from dgray.engine.granted_cpus import granted_cpus
from dgray.errors import DgrayError, MissingFileError
from dgray.metrics.features.inception_file import WeightsFile, find_weights, weights_file
from dgray.plan.advice import visible_gpus

MIN_SHARED_MEMORY = 1e9  # bytes; Ray passes samples and networks through it
MIN_FREE_DISK = 2e9  # bytes
_SHARED_MEMORY = Path("/dev/shm")
_EXTRAS = {  # packages of optional extras
    **{
        spec.package.replace("_", "-"): spec.extra
        for spec in (*DATA.built_in, *BASES.built_in, *FEATURES.values())
        if spec.package
    },
    "optuna-dashboard": "dashboard",
    "boto3": "s3",
}
# Checked if dgray runs from a checkout without metadata.
_DEPENDENCIES = ("numpy", "optuna", "pandas", "pyarrow", "pydantic", "ray", "torch")


class State(Enum):
    """Result of a check."""

    OK = "ok"
    OPTIONAL = "optional"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """Result of one check, with what is there, or what to do."""

    state: State
    subject: str
    text: str


def check_machine(*, starts_ray: bool) -> Iterator[Check]:
    """Yield the result of every check as soon as it is known."""
    yield from _packages()
    yield from _processors()
    yield _memory()
    yield _shared_memory()
    yield from _places()
    yield from _weights()
    yield _ray() if starts_ray else Check(State.OPTIONAL, "Ray", "not started (--no-ray)")


def _packages() -> Iterator[Check]:
    yield Check(State.OK, "dgray", f"{dgray.__version__}, Python {platform.python_version()}")
    required: list[str] = []
    missing: list[str] = []
    for requirement in _requirements():
        name = re.split(r"[ ;\[<>=!~(]", requirement, maxsplit=1)[0]
        if "extra ==" in requirement:
            continue
        version = _version(name)
        (missing if version is None else required).append(f"{name} {version or ''}".strip())
    if missing:
        text = f"{', '.join(missing)} missing; pip install {' '.join(missing)}"
        yield Check(State.PROBLEM, "packages", text)
    else:
        yield Check(State.OK, "packages", ", ".join(required))
    for package, extra in _EXTRAS.items():
        if (version := _version(package)) is not None:
            yield Check(State.OK, f"extra {extra}", f"{package} {version}")
        else:
            text = f"{package} is missing; pip install 'dgray[{extra}]' if a study needs it"
            yield Check(State.OPTIONAL, f"extra {extra}", text)


def _requirements() -> Iterable[str]:
    try:
        return importlib.metadata.requires("dgray") or _DEPENDENCIES
    except importlib.metadata.PackageNotFoundError:
        return _DEPENDENCIES


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processors() -> Iterator[Check]:
    yield Check(State.OK, "CPUs", f"{granted_cpus()} granted of {os.cpu_count()}")
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    usable, visible = torch.cuda.device_count(), visible_gpus()
    if usable:
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(usable))
        yield Check(State.OK, "GPUs", names)
    elif visible:
        text = (
            f"{visible} in this machine, but torch {torch.__version__} can use none; install the "
            "build of torch for its driver (https://pytorch.org/get-started/locally)"
        )
        yield Check(State.PROBLEM, "GPUs", text)
    else:
        text = "none; studies run on CPUs, those of CIFAR-10 and larger need GPUs"
        yield Check(State.OPTIONAL, "GPUs", text)


def _memory() -> Check:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Check(State.OK, "memory", f"{pages / 1e9:.3g} GB")


def _shared_memory() -> Check:
    if not _SHARED_MEMORY.is_dir():
        return Check(State.OK, "shared memory", "not used on this system")
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free >= MIN_SHARED_MEMORY:
        return Check(State.OK, "shared memory", f"{free / 1e9:.3g} GB free in {_SHARED_MEMORY}")
    text = (
        f"{free / 1e6:.0f} MB free in {_SHARED_MEMORY}, but Ray needs {MIN_SHARED_MEMORY / 1e9:g} "
        "GB; start the container with --shm-size=4g, or use --engine local"
    )
    return Check(State.PROBLEM, "shared memory", text)


def _places() -> Iterator[Check]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray"
    places = {
        "runs": (Path.cwd() / "runs", "give another folder with --out"),
        "cache": (cache, "set XDG_CACHE_HOME to another folder"),
        "temporary files": (Path(tempfile.gettempdir()), "set TMPDIR to another folder"),
    }
    for subject, (folder, fix) in places.items():
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        try:
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            text = f"{folder} cannot be written ({error.strerror}); {fix}"
            yield Check(State.PROBLEM, subject, text)
            continue
        text = f"{folder}, {free / 1e9:.3g} GB free"
        if free < MIN_FREE_DISK:
            yield Check(State.PROBLEM, subject, f"{text}; free some space, or {fix}")
        else:
            yield Check(State.OK, subject, text)


def _weights() -> Iterator[Check]:
    names: dict[WeightsFile, list[str]] = {}
    for features in (f for f in FEATURES.values() if f.is_inception):
        names.setdefault(weights_file(features.options["mode"]), []).append(features.name)
    for file, users in names.items():
        subject = f"Inception (features: {', '.join(users)})"
        try:
            yield Check(State.OK, subject, str(find_weights(file)))
        except MissingFileError as error:
            yield Check(State.OPTIONAL, subject, str(error))


def _ray() -> Check:
    try:
        from dgray.engine.ray_lifetime import guarded
        from dgray.engine.ray_session import ray_session

        with guarded("Ray ended during dgray doctor"), ray_session() as where:
            text = f"starts: {where}"
    except (DgrayError, ImportError, OSError) as error:
        text = f"{error}; studies run without Ray with --engine local"
        return Check(State.PROBLEM, "Ray", " ".join(text.split()))
    return Check(State.OK, "Ray", text)

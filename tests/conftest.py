"""Warnings are errors, except where Ray runs; what a test needs must be there in CI.

Elsewhere tests in a browser, or over network namespaces, are deselected where there are none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

from tests import ray_processes, typechecker
from tests.engine import namespaces

# Check the annotated shapes of every call and dataclass; before anything of dgray is imported. Not
# in children: studies take a third longer with it, and the tests of these packages run in here.
SHAPED = ("dgray.correction", "dgray.diffusion", "dgray.discriminator", "dgray.metrics")
if not ray_processes.is_child():
    jaxtyping.install_import_hook(SHAPED, f"{typechecker.__name__}.check")

# Folders with much computation, by the process that runs them beside this one; seconds of CPU.
APART = {
    "trials": (215, {"trial"}),
    "runs": (250, {"cli", "docs", "engine", "record"}),
    "reports": (210, {"reporting"}),
    "searches": (150, {"api", "extending", "growth", "guided", "search"}),
}
TESTS = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="processes that tests/torture kills")
    parser.addoption("--torture-seed", type=int, default=0, help="of what it kills, and when")
    parser.addoption("--torture-log", help="file that the torture's log is appended to")


def pytest_configure(config: pytest.Config) -> None:
    ray_processes.register(config, ("--kills", "--torture-seed", "--torture-log"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        for process, (seconds, folders) in APART.items():
            if folder in folders:
                item.add_marker(pytest.mark.apart(process, seconds=seconds))
        if item.get_closest_marker("ray") is not None:
            # Warnings that Ray itself causes cannot be fixed here.
            item.add_marker(pytest.mark.filterwarnings("default"))
    if os.environ.get("CI") == "true":
        return
    lacking = {"browser"} if find_browser() is None else set()
    lacking |= set() if namespaces.can_be_made() else {"namespaces"}
    without = [item for item in items if lacking & {mark.name for mark in item.iter_markers()}]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


@pytest.fixture(scope="session")
def browser() -> str:
    """Path of a Chromium or Chrome."""
    browser_path = find_browser()
    if browser_path is None:
        pytest.fail(
            "CI=true, so the tests in a browser must run, but none of "
            f"{', '.join(BROWSERS)} is on PATH; install one (Debian: apt-get install chromium)"
        )
    return browser_path


@pytest.fixture(scope="session")
def ray_running() -> Iterator[None]:
    """One Ray for all tests of a process: starting it takes longer than most of them."""
    import ray

    from dgray.engine.ray_session import ray_session

    with ray_session():
        assert ray.is_initialized()
        yield
    assert not ray.is_initialized()


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    """Compute on one thread: tensors are small, and idle threads that spin slow a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Turn the check of annotated shapes off, for tests of the package's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

"""The plugin that runs tests marked ``ray`` in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFTEST = """
from tests import ray_processes

def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5)

def pytest_configure(config):
    for marker in ("ray: ", "long: ", "apart(name, seconds): "):
        config.addinivalue_line("markers", marker)
    ray_processes.register(config, ["--kills"])
"""
MODULE = """
import os, signal
import pytest

PARENT = os.environ["PARENT"]

def test_here():
    assert os.environ.get("DGRAY_TEST_REPORTS") is None

@pytest.mark.ray
class TestRay:
    def test_passes(self, request):
        assert "DGRAY_TEST_REPORTS" in os.environ
        assert request.config.getoption("--kills") == 7

    def test_fails(self):
        print("some output")
        assert 1 == 2

    @pytest.mark.skip(reason="not today")
    def test_is_skipped(self):
        pass

    @pytest.mark.parametrize("number", ["4 [x]"])
    def test_dies(self, number):
        os.kill(os.getpid(), signal.SIGKILL)

    def test_leaves(self):
        os._exit(0)

    def test_passes_afterwards(self):
        pass

@pytest.fixture
def fatal():
    yield
    os._exit(3)

@pytest.mark.ray
def test_dies_in_teardown(fatal):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_module.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {n: v for n, v in os.environ.items() if n != "DGRAY_TEST_REPORTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half of the time to start
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env={**environment, "PYTHONPATH": root, "PARENT": str(os.getpid())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_each_outcome_is_reported_and_a_crash_fails_one_test_with_the_reason(
    folder: Path,
) -> None:
    done = run(folder, "--kills=7", "--junitxml=junit.xml", "--durations=0", "-vv")
    assert done.returncode == 1, done.stdout + done.stderr
    (suite,) = ElementTree.parse(folder / "junit.xml").getroot()
    cases = {str(case.get("name")): case for case in suite}
    failures = {
        name: child.get("message", "") + (child.text or "")
        for name, case in cases.items()
        for child in case
        if child.tag in ("failure", "error")
    }
    assert set(cases) - set(failures) == {
        "test_here",
        "test_passes",
        "test_is_skipped",
        "test_passes_afterwards",
    }
    assert "assert 1 == 2" in failures["test_fails"]
    process = "the process of test_module.py ended with"
    assert (
        f"{process} signal 9 (SIGKILL) while TestRay::test_dies[4 [x]] ran"
        in (failures["test_dies[4 [x]]"])
    )
    assert f"{process} status 0 while TestRay::test_leaves ran" in failures["test_leaves"]
    assert f"{process} status 3 while" in failures["test_dies_in_teardown"]
    assert "some output" in done.stdout
    assert "slowest durations" in done.stdout
    assert "4 failed, 4 passed, 1 skipped" in done.stdout


def test_the_error_of_a_failed_import_in_the_child_states_the_reason(folder: Path) -> None:
    with (folder / "test_module.py").open("a") as file:
        file.write("if 'DGRAY_TEST_REPORTS' in os.environ: raise RuntimeError('no module')\n")
    done = run(folder, "-k", "test_passes_afterwards")
    assert "ended with status 4 before TestRay::test_passes_afterwards started" in done.stdout
    assert "no module" in done.stdout


MEETING = """
import pathlib, time
import pytest

@pytest.mark.ray
@pytest.mark.long
def test_meets():
    pathlib.Path(__file__).with_suffix(".here").touch()
    for _ in range(600):
        if len(list(pathlib.Path(__file__).parent.glob("*.here"))) == 2:
            return
        time.sleep(0.1)
    raise AssertionError("the other module did not run at the same time")
"""


GROUPS = """
import os, pathlib
import pytest

def note(name):
    with pathlib.Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{os.getpid()} {name}\\n")

@pytest.mark.ray
def test_ray():
    note("ray")

@pytest.mark.ray
@pytest.mark.long
def test_long():
    note(f"long {__name__}")

@pytest.mark.apart("numbers")
def test_apart():
    note("apart")
"""


def test_tests_with_ray_share_a_process_and_long_ones_those_of_a_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(folder / "notes"))
    for name in ("test_a.py", "test_b.py"):
        (folder / name).write_text(GROUPS)
    done = run(folder, "test_a.py", "test_b.py")
    assert "6 passed" in done.stdout, done.stdout
    notes = [line.split(maxsplit=1) for line in (folder / "notes").read_text().splitlines()]
    processes = {group: {pid for pid, name in notes if name == group} for _, group in notes}
    assert len(notes) == 6
    assert {group: len(pids) for group, pids in processes.items()} == {
        "ray": 1,
        "apart": 1,
        "long test_a": 1,
        "long test_b": 1,
    }
    assert len({pid for pid, _ in notes}) == 4


def test_two_modules_run_at_the_same_time_when_no_other_test_is_left(folder: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(MEETING)
    done = run(folder, "test_one.py", "test_two.py")
    assert "2 passed" in done.stdout, done.stdout

"""Code of other packages that exits, crashes or hangs, in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgray.config.study import StudyConfig
from dgray.errors import PartError
from dgray.problem.part_process import end_idle, outside_modules, run_apart

CODE = """\
import ctypes, os, signal, sys, time

def count(stop):
    yield from range(stop)

def fail():
    yield 1
    raise ZeroDivisionError("no reason")

def leave(status):
    yield 1
    sys.exit(status)

def end(status):
    yield 1
    os._exit(status)

def end_in_c(status):
    yield 1
    ctypes.CDLL(None)._exit(status)

def crash():
    yield ctypes.string_at(0)

def be_killed():
    yield os.kill(os.getpid(), signal.SIGKILL)

def hang():
    yield time.sleep(1e6)

def block():
    yield ctypes.PyDLL(None).sleep(1000000)
"""


def config(**resources: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "apart",
            "data": {"kind": "points", "factory": "apart_parts:count"},
            "base": {"kind": "wrong_mixture"},
            "resources": resources,
        }
    )


@pytest.fixture(scope="module", autouse=True)
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "apart_parts.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    end_idle()


def test_items_arrive_in_order() -> None:
    assert outside_modules(config()) == {"apart_parts"}
    assert list(run_apart(config(), "apart_parts:count", {"stop": 3})) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("fail", {}, r"ZeroDivisionError: no reason \(apart_parts.py:8\)"),
        ("leave", {"status": 0}, r"it called sys.exit\(0\) \(apart_parts.py:12\)"),
        (
            "end",
            {"status": 0},
            r"end \(apart_parts.py:16\) called os._exit: its process ended with status 0",
        ),
        ("end_in_c", {"status": 3}, r"its process ended with status 3"),
        ("crash", {}, r"its process was killed by SIGSEGV in .*\.py:\d+"),
        ("be_killed", {}, r"its process was killed by SIGKILL; .* ran out of memory: lower .*"),
    ],
)
def test_an_end_is_an_error_with_its_reason(
    name: str, arguments: dict[str, int], reason: str
) -> None:
    with pytest.raises(PartError) as raised:
        list(run_apart(config(), f"apart_parts:{name}", arguments))
    assert re.fullmatch(reason, str(raised.value)), raised.value
    assert list(run_apart(config(), "apart_parts:count", {"stop": 1})) == [0]  # another process


def test_a_hang_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgray.problem.part_process._SILENCE_SECONDS", 1.0)
    with pytest.raises(PartError, match=r"^hang \(apart_parts.py:29\) did not return within"):
        list(run_apart(config(part_time_limit=0.5), "apart_parts:hang", {}))
    with pytest.raises(PartError, match=r"did not return within resources.part_time_limit, 0.5 s"):
        list(run_apart(config(part_time_limit=0.5), "apart_parts:block", {}))
    with pytest.raises(PartError, match=r"longer than resources.trial_time_limit, 0.5 s"):
        list(run_apart(config(), "apart_parts:hang", {}, time_limit=0.5))


def test_a_computation_that_is_given_up_ends_its_process() -> None:
    items = run_apart(config(), "apart_parts:count", {"stop": 10**9})
    assert next(items) == 0
    items.close()
    assert list(run_apart(config(), "apart_parts:count", {"stop": 1})) == [0]


def test_modules_that_a_child_cannot_import_stay_in_this_process(tmp_path: Path) -> None:
    data = {"kind": "points", "factory": "__main__:data"}
    study = {"name": "s", "data": data, "base": {"kind": "wrong_mixture"}}
    assert outside_modules(StudyConfig.model_validate(study)) == set()

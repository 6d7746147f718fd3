"""Terminals, pipes, full disks and places of output that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dgray.errors import OutputError
from dgray.files import output_file, output_folder
from dgray.record.storage.location import location

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from dgray.cli.command import exit_status
from dgray.cli.output import printed

def command():
    print("0.5 \\xb1 0.1 \\u03c3 \\xe9 \\udcff", flush=True)
    if "|" in sys.argv:
        sys.stdin.readline()
    for _ in range(1000):
        print("line")
    return printed() if "printed" in sys.argv else 0

sys.exit(exit_status(command))
"""


def run(*arguments: str, redirect: str = "", **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "0.5 ± 0.1 σ é \\udcff"),
        ({"PYTHONIOENCODING": "ascii"}, "0.5 +- 0.1 sigma \\xe9 \\udcff"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            "0.5 +- 0.1 sigma \\xe9 \\udcff",
        ),
    ],
)
def test_characters_that_a_terminal_lacks_are_replaced(
    variables: dict[str, str], line: str
) -> None:
    status, output, errors = run(**variables)
    assert (status, output.splitlines()[0], errors) == (0, line, "")


@pytest.mark.parametrize(
    ("arguments", "redirect", "status", "reason"),
    [
        ((), ">/dev/full", 0, "No space left on device"),
        (("printed",), ">/dev/full", 1, "No space left on device"),
        (("printed",), ">&-", 0, None),
        ((), "2>&-", 0, None),
        ((), ">/dev/full 2>/dev/full", 0, None),
    ],
)
def test_output_that_cannot_be_written_is_dropped_with_one_line(
    arguments: tuple[str, ...], redirect: str, status: int, reason: str | None
) -> None:
    line = f"standard output cannot be written ({reason}); the command continues without it\n"
    actual, _, errors = run(*arguments, redirect=redirect, PYTHONIOENCODING="utf-8")
    assert (actual, errors) == (status, line if reason else "")


def test_a_closed_pipe_ends_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "|", "printed"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"closed\n")
        process.stdin.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 0
    assert errors.splitlines() == [
        "standard output cannot be written (Broken pipe); the command continues without it"
    ]


BAD_PLACES = {
    "file": "is a file",
    "file/below": "",
    "loop": "link to nothing",
    "loop/below": "",
    "dangling": "link to nothing",
    "a" * 300: "File name too long",
    "/".join(["b" * 200] * 30): "File name too long",
    "~no-such-user-9/x": "home directory",
    "s3://bucket/x": "it is an address",
    "/dev/null": "",
    "/dev/null/below": "",
    "/proc/below": "",
}


@pytest.mark.parametrize("place", BAD_PLACES)
def test_a_place_where_nothing_can_be_written_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere/below")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="give another") as refused:
        output_folder(Path(place))
    assert BAD_PLACES[place] in str(refused.value)
    assert len(str(refused.value)) < 700
    if place not in ("file", "loop", "dangling"):  # a new file replaces those
        with pytest.raises(OutputError, match="give another"):
            output_file(Path(place))
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "b" * 200] == before


def test_a_place_that_can_be_written_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_folder(Path("~/a/b")) == tmp_path / "a" / "b"
    assert output_file(Path("~/a/c.npz")) == tmp_path / "a" / "c.npz"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert location("~/a") == tmp_path / "a"
    with pytest.raises(OutputError, match="a folder or a device"):
        output_file(tmp_path / "a" / "b")

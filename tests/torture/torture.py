"""Kills random processes of studies and checks that the results do not change.

A round is one study from an empty folder to its report, with as many drivers as that takes; rounds
are repeated until all kills are made. A kill draws a kind of process from a shuffled deck, waits
for a process of that kind and a random time longer, and ends it with SIGKILL.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pandas as pd
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dgray.files import PARTIAL_SUFFIX
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.search.build import JOURNAL
from tests.torture.processes import FATAL, MARK, by_kind, family, is_running, marked

ROOT = Path(__file__).parents[2]
DEADLINE = 900.0  # seconds for anything to happen, on the busiest of machines
GONE = 30.0  # seconds in which all is gone; Ray by itself takes more than 60
POLL = 0.02
GO_ON = "finished work is kept. To resume:"
# Drivers and trial workers twice, since they die most often in practice.
DECK = ("driver", "driver", "trial worker", "trial worker", "sink", "raylet", "gcs")
DECK_OF_IMAGES = (*DECK, "sampling actor", "sampling actor", "artifact worker", "agent")


@dataclass
class Log:
    """Record of the kills, as lines and counts."""

    path: Path | None = None
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    rounds: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    last_seconds: list[float] = field(
        default_factory=list
    )  # until all processes of a dead driver have ended
    started: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        text = f"{time.monotonic() - self.started:7.1f} s  {line}"
        print(text, flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                print(text, file=file)

    def summary(self) -> str:
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        losses = ", ".join(f"{count} {kind}" for kind, count in sorted(self.losses.items()))
        return (
            f"{self.kills.total()} kills ({kills}) in {self.rounds} rounds; {self.restarts} "
            f"restarts; {time.monotonic() - self.started:.0f} s; orphans gone within "
            f"{max(self.last_seconds, default=0.0):.1f} s; replaced while the driver lived, "
            f"by provenance: {losses or 'none'}"
        )


@dataclass
class Torture:
    """Rounds of one study.

    Attributes:
        study: the file.
        folder: for everything: runs, temporary files, Ray's session.
        deck: kinds of processes to draw from.
        reference: run folder of the study, undisturbed.
        horizon: seconds; kills fall at random within as many.
    """

    study: Path
    folder: Path
    deck: tuple[str, ...]
    random: random.Random
    log: Log
    reference: Path = field(init=False)
    horizon: float = field(init=False)
    cards: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.reference = self.folder / "reference"
        started = time.monotonic()
        done = subprocess.run(
            self.command(self.reference, "--engine", "local"),
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.horizon = time.monotonic() - started
        self.log.say(f"{self.study.stem}: undisturbed, one process: {self.horizon:.1f} s")

    def command(self, out: Path, *more: str) -> list[str]:
        overrides = ("--set", "resources.max_failures=1000")
        study = ("-m", "dgray.study", str(self.study), "--out", str(out))
        return [sys.executable, *study, "--no-report", *overrides, *more]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        temporary = {"TMPDIR": str(self.folder), "RAY_TMPDIR": str(self.folder)}
        return {
            **kept,
            **temporary,
            MARK: str(self.folder),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def round(self, kills: int) -> int:
        """Run the study to its end and return how many of ``kills`` are left."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        self.log.rounds += 1
        done: dict[str, tuple[int, bytes]] = {}
        while True:
            driver = Driver(self.command(run), self.environment(), self.folder)
            kills = self._torment(driver, kills)
            status = driver.wait()
            self._all_gone(driver)
            # A driver that dies with Ray prints how to resume, itself or through its guard.
            assert status != 1 or GO_ON in driver.output(), driver.output()
            self._stored_once(run, done)
            if status == 0:
                self.horizon = min(self.horizon, driver.seconds())
                break
            self.log.restarts += 1
        self._finished_well(run)
        return kills

    def _torment(self, driver: Driver, kills: int) -> int:
        """Kill processes until the driver ends; return how many of ``kills`` are left."""
        while kills:
            if not self.cards:
                self.cards = self.random.sample(self.deck, len(self.deck))
            kind = self.cards[-1]
            delay = self.random.random() * self.horizon / (1 if kind in FATAL else 4)
            victim = driver.after(delay, kind, self.random)
            if victim is None:
                return kills  # the driver has ended; the card stays for the next round
            self.cards.pop()
            self.log.say(f"kill {kind} {delay:.1f} s after there was one")
            victim.kill()
            self.log.kills[kind] += 1
            kills -= 1
            if kind in FATAL:
                status = driver.wait()
                # 0: it no longer needed Ray; its rows are compared below.
                expected = (-9,) if kind == "driver" else (0, 1)
                assert status in expected, (kind, status, driver.output())
                self.log.say(f"  the driver ended with {status}: {driver.last_line()}")
        return kills

    def _all_gone(self, driver: Driver) -> None:
        """Check that no process outlives its driver for long."""
        started = time.monotonic()
        left = [p for p in {*driver.seen, *marked(str(self.folder))} if p.pid != os.getpid()]
        while left := [process for process in left if is_running(process)]:
            waited = time.monotonic() - started
            assert waited < GONE, [(p.pid, p.cmdline()) for p in left]
            time.sleep(POLL)
        self.log.last_seconds.append(time.monotonic() - started)

    def _stored_once(self, run: Path, done: dict[str, tuple[int, bytes]]) -> None:
        """Check that no stored checkpoint was computed again."""
        for path in (run / "rows").glob("*-[0-9]*.parquet"):
            now = (path.stat().st_mtime_ns, path.read_bytes())
            assert done.setdefault(path.name, now) == now, f"{path} was written again"

    def _finished_well(self, run: Path) -> None:
        pd.testing.assert_frame_equal(table(run), table(self.reference), check_exact=True)
        assert points(run) == points(self.reference)
        assert not [*run.rglob(f"*{PARTIAL_SUFFIX}")]
        assert not [*self.folder.glob("*dgray-trials-*")]
        assert states(run) == states(self.reference)
        assert set(states(run)) <= {"COMPLETE", "PRUNED"}
        sessions = json.loads((run / "provenance.json").read_text())["sessions"]
        for session in sessions:
            self.log.losses.update(
                {task.partition("-")[0]: n for task, n in session["worker_losses"].items()}
            )
        self.log.say(f"{self.study.stem}: complete after {len(sessions)} sessions, rows equal")


class Driver:
    """One ``python -m dgray.study`` and all of its descendants over time."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._output = folder / "output"
        with self._output.open("w", encoding="utf-8") as file:
            self._popen = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT
            )
        self._process = psutil.Process(self._popen.pid)
        self._process_started = time.time()
        self.seen: set[psutil.Process] = set()

    def wait(self) -> int:
        """Wait for the end while recording descendants; return the exit status."""
        self._until(lambda: False)
        return self._popen.wait()

    def after(self, seconds: float, kind: str, random: random.Random) -> psutil.Process | None:
        """Return a process of a kind some time after the first one; None if the driver ends."""
        since: list[float] = []
        processes: list[psutil.Process] = []

        def is_due() -> bool:
            processes[:] = by_kind(self._process).get(kind, [])
            if processes and not since:
                since.append(time.monotonic())
            return bool(processes) and time.monotonic() - since[0] >= seconds

        if not self._until(is_due):
            return None
        return random.choice(sorted(processes, key=lambda process: process.pid))

    def _until(self, is_due: Callable[[], bool]) -> bool:
        """Wait for the condition; return False if the driver ends first."""
        deadline = time.monotonic() + DEADLINE
        while self._popen.poll() is None:
            self.seen.update(family(self._process))
            if is_due():
                return True
            assert time.monotonic() < deadline, "the driver hangs: " + self.output()
            time.sleep(POLL)
        return False

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.time() - self._process_started

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def last_line(self) -> str:
        return (self.output().strip().splitlines() or [""])[-1][:150]


def table(run: Path) -> pd.DataFrame:
    """Return all columns but the provenance, sorted."""
    rows = RunFolder(run).rows()[column_names("identity", "metric")]
    keys = ["trial", "replicate", "epoch", "is_calibrated", "guidance_weight"]
    return rows.sort_values(keys).reset_index(drop=True)


def points(run: Path) -> dict[str, object]:
    """Return the points that the searches suggested."""
    files = sorted((run / "search").glob("*/*-asked.json"))
    asked = {str(path.relative_to(run)): json.loads(path.read_text("utf-8")) for path in files}
    told = {path.name for path in (run / "search").glob("*/*-told.json")}
    assert {path.name.replace("asked", "told") for path in files} == told
    return {name: (event["number"], event["values"]) for name, event in asked.items()}


def states(run: Path) -> list[str]:
    """Return the states of the points in Optuna's storage."""
    if not (run / JOURNAL).exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(run / JOURNAL)))
    studies = optuna.get_all_study_names(storage)
    loaded = [optuna.load_study(study_name=name, storage=storage) for name in studies]
    return [trial.state.name for study in loaded for trial in study.get_trials(deepcopy=False)]

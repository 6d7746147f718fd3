"""optuna-dashboard reads the journal of a search, in a browser."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from dgray.search.build import JOURNAL
from tests.search.analytic import finish, load, run_search

pytestmark = pytest.mark.browser

PATIENCE = 120.0  # seconds; normally 1 to 2
METRICS = "search.metrics={path_kl_change: minimize, num_parameters: minimize}"
TWO_CELLS = "fit.objective=[cross_entropy, kl]"


@contextmanager
def served(journal: Path, log: Path) -> Iterator[str]:
    """Serve a journal; yield the address of the dashboard."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), str(journal)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=output, stderr=output
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(address, server, log)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        try:
            api(address, "studies")
        except URLError:
            time.sleep(0.1)
        else:
            return


def api(address: str, path: str) -> Any:
    with urlopen(f"{address}/api/{path}", timeout=PATIENCE) as answer:
        return json.load(answer)


def studies(address: str) -> dict[str, int]:
    """Ids of the listed studies by name."""
    current = api(address, "studies")["study_summaries"]
    return {study["study_name"]: study["study_id"] for study in current}


def states(address: str, name: str) -> list[str]:
    return [
        trial["state"] for trial in api(address, f"studies/{studies(address)[name]}")["trials"]
    ]


def wait_for_states(address: str, name: str, expected: list[str]) -> None:
    """Wait for these states; the dashboard reads the journal every two seconds."""
    deadline = time.monotonic() + PATIENCE
    while (current := states(address, name)) != expected:
        assert time.monotonic() < deadline, current
        time.sleep(0.2)


def document_of(browser: str, address: str, folder: Path) -> str:
    """HTML of a page after its scripts have run."""
    options = [
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,2400",
        "--virtual-time-budget=20000",  # of the page: its requests and timers
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium refuses to sandbox root
    done = subprocess.run(
        [browser, *options, address],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def words_of(document: str) -> str:
    """Text of a page."""
    without = re.sub(r"<(style|script)\b.*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without)).split())


def test_a_browser_shows_trials_and_the_pareto_front(browser: str, tmp_path: Path) -> None:
    study = load(tmp_path, TWO_CELLS, METRICS, "search.constraints={num_parameters: 40}")
    folder = RunFolder(tmp_path / "run")
    run_search(make_plan(study), folder)
    storage = JournalStorage(JournalFileBackend(str(folder.path / JOURNAL)))
    kl = optuna.load_study(study_name="kl", storage=storage)
    with served(folder.path / JOURNAL, tmp_path / "log") as address:
        assert set(studies(address)) == {"cross_entropy", "kl"}  # the cells
        content = api(address, f"studies/{studies(address)['kl']}")
        assert [trial["state"] for trial in content["trials"]] == ["Complete"] * 8
        for shown in content["trials"]:
            change, size = shown["values"]
            assert shown["constraints"] == [size - 40]
            attributes = {
                attribute["key"]: attribute["value"] for attribute in shown["user_attrs"]
            }
            assert attributes["trial"].startswith("kl-")
            assert attributes["epoch"] == "20"
            assert float(attributes["guidance_weight"]) in (0.5, 1.0)
            gap = float(attributes["held_out path_kl_change"]) - change
            assert gap == pytest.approx(0.045)  # 0.05 on held-out data, 0.005 of the replicates
        page = f"{address}/dashboard/studies/{studies(address)['kl']}"
        text = words_of(document_of(browser, page, tmp_path))
        assert "kl (id=" in text
        assert "Pareto Front" in text
        assert "path_kl_change (validation)" in text  # axes of the plot, drawn
        assert "num_parameters (validation)" not in text  # a cost has no split
        _, _, best = text.partition("Best Trials")
        on_front = {int(number) for number in re.findall(r"Trial (\d+) Objective Values", best)}
        assert on_front == {trial.number for trial in kl.best_trials}
        assert 0 < len(on_front) < 8
        listed = words_of(document_of(browser, f"{page}/trials", tmp_path))
        assert all(f"Trial {number}" in listed for number in range(8))


def test_an_open_dashboard_follows_a_study_and_its_restart(tmp_path: Path) -> None:
    plan = make_plan(load(tmp_path, "search.num_trials=6"))
    folder = RunFolder(tmp_path / "run")
    first = run_search(plan, folder, points=2)
    lost = first.next()  # in flight when the driver dies
    assert lost is not None
    with served(folder.path / JOURNAL, tmp_path / "log") as address:
        wait_for_states(address, "kl", ["Complete", "Complete", "Running"])
        finish(folder, lost)
        first.report_end(lost.id, None)
        wait_for_states(address, "kl", ["Complete"] * 3)
        again = run_search(plan, folder, points=1)
        wait_for_states(address, "kl", ["Complete"] * 4)
        assert not again.is_over()
        run_search(plan, folder)
        wait_for_states(address, "kl", ["Complete"] * 6)
        assert list(studies(address)) == ["kl"]
    assert not (folder.path / f"{JOURNAL}.lock").is_symlink()

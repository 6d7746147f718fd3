"""Runs in an object store are resumed on another machine, reported and sampled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dgray.cli import report, sample, study
from dgray.engine import local
from dgray.engine.events import CheckpointDone, Event
from dgray.record.open_run import open_run
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RUN_FORMAT
from dgray.record.storage import lease as lease_module
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import working_folder
from dgray.search.build import build_schedule
from tests.record.local_runs import run_study_text
from tests.record.storage.conftest import ENVIRONMENT, Bucket
from tests.record.storage.faulty_proxy import Fault, FaultyProxy
from tests.record.storage.remote import STUDY, plan_of, rows_of
from tests.search.analytic import STUDY as SEARCH
from tests.search.analytic import analytic_trial

pytestmark = pytest.mark.usefixtures("in_a_hurry")
ROOT = Path(__file__).parents[3]
SECRETS = [ENVIRONMENT[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("another-cache").absolute()))


def metric_columns(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["trial", "replicate", "epoch", "is_calibrated"]
    columns = rows.reindex(columns=column_names("identity", "metric")).dropna(axis=1, how="all")
    return columns.sort_values(keys).reset_index(drop=True)


def without_time(name: str) -> str:
    return name.partition(".tfevents.")[0]


@pytest.fixture(scope="module")
def in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of the study in a folder."""
    path = tmp_path_factory.mktemp("in-a-folder")
    return run_study_text(path, STUDY)


@contextlib.contextmanager
def driver(engine: str, uri: str) -> Iterator[subprocess.Popen[str]]:
    """Start a driver in its own process; yield after its first trained checkpoint."""
    with subprocess.Popen(
        [sys.executable, "-m", "dgray.study", "tiny.yaml", "--engine", engine, "--out", uri],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        while "cross_entropy, epoch 2" not in (line := process.stdout.readline()):
            assert line, process.communicate()[1]
        yield process


def resume_and_compare(
    uri: str,
    bucket: Bucket,
    proxy: FaultyProxy,
    in_a_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> None:
    """Resume elsewhere over a failing network; the rows equal those in the folder bit for bit."""
    # The renewing thread may wait for seconds while a report is made on a busy machine.
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 12.0)
    before = bucket.objects()
    assert "run.json" in before
    done = {name for name in before if name.startswith("rows/")}
    assert 0 < len(done) < 7  # one of the base, three of each objective
    on_another_machine(monkeypatch)
    faults = iter(range(10**9))
    kinds = (Fault(status=500), Fault(reset="before"), Fault(reset="after"), Fault(seconds=0.2))

    def choose(method: str, path: str) -> Fault | None:
        number = next(faults)
        return kinds[number // 6 % 4] if number % 6 == 5 else None

    proxy.choose = choose
    assert study.main(["tiny.yaml", "--engine", "local", "--out", uri, *arguments]) == 0
    proxy.choose = lambda method, path: None
    after = bucket.objects()
    assert {name: after[name] for name in done} == {name: before[name] for name in done}
    pd.testing.assert_frame_equal(
        metric_columns(rows_of(after)),
        metric_columns(RunFolder(in_a_folder).rows()),
        check_exact=True,
    )
    assert not [text for text in after.values() for secret in SECRETS if secret in text]
    assert not [name for name in after if name.startswith(".")]  # no lease is left
    assert not working_folder(location(uri)).exists()  # type: ignore[arg-type]


@pytest.mark.long
def test_a_killed_study_is_resumed_from_another_machine(
    bucket: Bucket,
    proxy: FaultyProxy,
    in_a_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    uri = bucket.uri()
    with driver("local", uri) as process:
        process.kill()
    claims = [v for name, v in bucket.objects().items() if name.startswith(".lock/")]
    assert [json.loads(claim)["pid"] for claim in claims] == [process.pid]
    resume_and_compare(uri, bucket, proxy, in_a_folder, monkeypatch)
    assert f"report: {uri}/report.html" in capfd.readouterr().out
    objects = bucket.objects()
    sessions = json.loads(objects["provenance.json"])["sessions"]
    assert [session["outcome"] for session in sessions] == ["killed", "complete"]
    assert json.loads(objects["run.json"])["format"] == RUN_FORMAT
    assert {"report.html", "report.parquet", "study.lock.yaml"} <= objects.keys()
    assert any(name.startswith("tensorboard/cross_entropy") for name in objects)

    bucket.put("figures/kl-epochs.svg", b"of an earlier report")
    bucket.put("tensorboard/gone/events", b"of an earlier report")
    assert report.main([uri]) == 0
    again = bucket.objects()
    # Names of event files contain the time; earlier event files were deleted.
    assert sorted(map(without_time, again)) == sorted(map(without_time, objects))
    assert again["report.parquet"] == objects["report.parquet"]
    assert f"report:      {uri}/report.html" in capfd.readouterr().out
    assert report.main([uri, "--out", "here"]) == 0
    assert Path("here/report.parquet").read_bytes() == objects["report.parquet"]
    left = bucket.objects()
    assert left.keys() == again.keys()
    assert [name for name in left if left[name] != again[name]] == []  # no diff of megabytes
    assert report.main([uri, "--out", "here"]) == 2
    assert "new or empty folder" in capfd.readouterr().err

    for run, out in ((uri, "there.npz"), (str(in_a_folder), "folder.npz")):
        assert sample.main([run, "--num-samples", "5", "--device", "cpu", "--out", out]) == 0
    assert np.array_equal(np.load("there.npz")["arr_0"], np.load("folder.npz")["arr_0"])


@pytest.mark.ray
@pytest.mark.long
def test_a_terminated_study_under_ray_is_resumed_from_another_machine(
    bucket: Bucket, proxy: FaultyProxy, in_a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = bucket.uri()
    with driver("ray", uri) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith(f"--engine ray --out {uri}")
    resume_and_compare(uri, bucket, proxy, in_a_folder, monkeypatch, "--no-report")


def test_an_old_working_copy_is_replaced_by_the_store(bucket: Bucket) -> None:
    plan, uri = plan_of(STUDY), location(bucket.uri())
    open_run(plan, uri, fresh=False).close()
    left = working_folder(uri) / "rows" / "kl-1-000002.parquet"  # type: ignore[arg-type]
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a fi")
    bucket.put("../outside.json", b"{}")
    run = open_run(plan, uri, fresh=False)
    assert not left.exists()
    assert (run.folder.path / "study.lock.yaml").read_bytes() == bucket.objects()[
        "study.lock.yaml"
    ]
    run.close()
    assert not run.folder.path.exists()


def test_a_search_is_resumed_from_its_events_in_the_store(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, uri = plan_of(SEARCH), location(bucket.uri())

    def go(place: object, stop_after: int) -> None:
        run = open_run(plan, place, fresh=False)  # type: ignore[arg-type]
        seen = iter(range(10**6))

        def observe(event: Event) -> None:
            if isinstance(event, CheckpointDone) and next(seen) == stop_after:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            local.run(
                build_schedule(plan, run.folder),
                run.folder,
                lambda workers: {},
                observe,
                run_trial=analytic_trial,
            )
        run.close()

    go(tmp_path / "folder", 10**6)
    go(uri, 6)
    suggestions = [name for name in bucket.objects() if name.endswith("-asked.json")]
    assert 0 < len(suggestions) < 8
    on_another_machine(monkeypatch)
    go(uri, 10**6)
    events = {n: json.loads(v) for n, v in bucket.objects().items() if n.startswith("search/")}
    for name, event in events.items():
        there = json.loads((tmp_path / "folder" / name).read_text())
        timing = {"seconds": 0, "intermediate": {}, "seal": ""}  # differ between sessions
        assert event | timing == there | timing
    assert len([name for name in events if name.endswith("-told.json")]) == 8

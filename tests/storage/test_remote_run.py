"""Studies whose run is in an object store: killed, resumed elsewhere, reported, sampled from."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dgray import report, sample, study
from dgray.artifacts import build_artifacts
from dgray.config.load import load_study
from dgray.engine import local
from dgray.engine.events import CheckpointDone, Event
from dgray.open_run import open_run
from dgray.plan import Plan, make_plan
from dgray.row import column_names
from dgray.run_folder import RunFolder
from dgray.run_lock import RunRefused
from dgray.search.build import build_schedule
from dgray.search.schedule import GridSchedule
from dgray.storage import lease as lease_module
from dgray.storage import store as store_module
from dgray.storage.location import location
from dgray.storage.working_copy import working_folder
from tests.search.analytic import STUDY as SEARCH
from tests.search.analytic import analytic_trial
from tests.storage.conftest import ENVIRONMENT, Bucket
from tests.storage.faulty_proxy import Fault, FaultyProxy

ROOT = Path(__file__).parents[2]
STUDY = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: trained, width: 8, depth: 1, num_real: 64, steps: 30, num_generated: 64}
discriminator: {width: 8, depth: 2}
fit: {objective: [cross_entropy, kl], epochs: 800, checkpoints: [2, 300, 800]}
evaluate:
  guidance_weight: [1.0, calibrated]
  metrics: [path_kl]
  num_points: 20
  num_samples: 20
  num_bins: 4
"""
SECRETS = [ENVIRONMENT[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]


@pytest.fixture(autouse=True)
def _short_times(tmp_path: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.5)
    monkeypatch.setattr(lease_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(store_module, "_LONGEST_PAUSE", 0.05)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)


def plan_of(text: str, *overrides: str) -> Plan:
    Path("plan.yaml").write_text(text)
    return make_plan(load_study(Path("plan.yaml"), overrides))


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows nothing of what this one did."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("another-cache").absolute()))


def metric_columns(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["trial", "replicate", "epoch", "is_calibrated"]
    found = rows[column_names("identity", "metric")]
    return found.sort_values(keys).reset_index(drop=True)


def rows_of(objects: dict[str, bytes]) -> pd.DataFrame:
    parts = [v for name, v in sorted(objects.items()) if name.startswith("rows/")]
    return pd.concat([pq.read_table(io.BytesIO(part)).to_pandas() for part in parts])


def without_time(name: str) -> str:
    return name.partition(".tfevents.")[0]


@pytest.fixture(scope="module")
def in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, undisturbed, in a folder."""
    path = tmp_path_factory.mktemp("in-a-folder")
    (path / "tiny.yaml").write_text(STUDY)
    plan = make_plan(load_study(path / "tiny.yaml"))
    run = open_run(plan, path / "run", fresh=False)
    local.run(
        GridSchedule(plan.trials, run),
        run,
        lambda workers: build_artifacts(plan.trials, run),
        lambda event: None,
    )
    run.close()
    return path / "run"


@contextlib.contextmanager
def driver(engine: str, uri: str) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process of its own, after its first trained checkpoint."""
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
) -> None:
    """Elsewhere, over a bad network; the rows are those of the folder to the bit."""
    before = bucket.objects()
    assert "run.json" in before
    done = {name for name in before if name.startswith("rows/")}
    assert 0 < len(done) < 7  # of the base's one and three of either objective
    on_another_machine(monkeypatch)
    faults = iter(range(10**9))
    kinds = (Fault(status=500), Fault(reset="before"), Fault(reset="after"), Fault(seconds=0.2))

    def choose(method: str, path: str) -> Fault | None:
        number = next(faults)
        return kinds[number // 6 % 4] if number % 6 == 5 else None

    proxy.choose = choose
    assert study.main(["tiny.yaml", "--engine", "local", "--out", uri]) == 0
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


@pytest.mark.slow
def test_a_driver_that_is_killed_is_resumed_from_another_machine(
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
    assert [session["outcome"] for session in sessions] == ["running", "complete"]
    assert json.loads(objects["run.json"])["format"] == 1
    assert {"report.html", "report.parquet", "study.lock.yaml"} <= objects.keys()
    assert any(name.startswith("tensorboard/cross_entropy") for name in objects)

    bucket.put("figures/kl-epochs.svg", b"of an earlier report")
    bucket.put("tensorboard/gone/events", b"of an earlier report")
    assert report.main([uri]) == 0
    again = bucket.objects()
    # Event files have the time in their names; of the earlier ones none is left.
    assert sorted(map(without_time, again)) == sorted(map(without_time, objects))
    assert again["report.parquet"] == objects["report.parquet"]
    assert f"report:      {uri}/report.html" in capfd.readouterr().out
    assert report.main([uri, "--out", "here"]) == 0
    assert Path("here/report.parquet").read_bytes() == objects["report.parquet"]
    assert bucket.objects() == again
    assert report.main([uri, "--out", "here"]) == 2
    assert "new or empty folder" in capfd.readouterr().err

    for run, out in ((uri, "there.npz"), (str(in_a_folder), "folder.npz")):
        assert sample.main([run, "--num-samples", "5", "--device", "cpu", "--out", out]) == 0
    assert np.array_equal(np.load("there.npz")["arr_0"], np.load("folder.npz")["arr_0"])


@pytest.mark.ray
@pytest.mark.slow
def test_rows_of_ray_s_workers_are_in_the_store_when_a_scheduler_ends_the_job(
    bucket: Bucket, proxy: FaultyProxy, in_a_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = bucket.uri()
    with driver("ray", uri) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith(f"--engine ray --out {uri}")
    resume_and_compare(uri, bucket, proxy, in_a_folder, monkeypatch)


@pytest.mark.parametrize(
    "engine", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])]
)
def test_a_store_that_goes_away_stops_the_study_with_words_and_nothing_half_written(
    engine: str,
    bucket: Bucket,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 1.0)
    gone = False

    def choose(method: str, path: str) -> Fault | None:
        nonlocal gone
        gone |= method == "PUT" and "/rows/cross_entropy" in path
        return Fault(reset="before") if gone else None

    proxy.choose = choose
    uri = bucket.uri()
    assert study.main(["tiny.yaml", "--engine", engine, "--out", uri]) == 1
    told = capfd.readouterr().err
    assert told.startswith(f"{uri}: the store did not answer as it should for ")
    assert "whole and kept" in told
    assert f"To go on: python -m dgray.study tiny.yaml --engine {engine} --out {uri}" in told
    assert "Traceback" not in told
    objects = bucket.objects()
    rows = [name for name in objects if name.startswith("rows/")]
    assert not [name for name in rows if "cross_entropy" in name]
    assert rows or engine == "ray"  # the base's; Ray begins with what takes longest
    for name in rows:
        assert len(rows_of({name: objects[name]})) == 4  # two replicates at two weights, whole


def test_a_second_driver_is_refused_before_it_starts(
    bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    first = open_run(plan_of(STUDY), location(bucket.uri()), fresh=False)
    assert study.main(["tiny.yaml", "--engine", "local", "--out", bucket.uri()]) == 2
    told = capfd.readouterr().err
    assert f"one driver at a time may write a run, and process {os.getpid()} on " in told
    assert first.lost is None
    first.close()


def test_a_driver_whose_lease_is_taken_stops_and_writes_no_more(
    bucket: Bucket, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def take_over(event: Event) -> None:
        if isinstance(event, CheckpointDone) and not taken:
            for name in [n for n in bucket.objects() if n.startswith(".lock/")]:
                bucket.client.delete_object(Bucket=bucket.name, Key=f"a/tiny/{name}")
            taken.append(time.monotonic())
            while not taken[1:]:
                time.sleep(0.05)  # until the driver notices: an interrupt ends this

    monkeypatch.setattr("dgray.run_study.Progress.observe", lambda self, event: take_over(event))
    assert study.main(["tiny.yaml", "--engine", "local", "--out", bucket.uri()]) == 1
    assert "lease was not renewed in time or was taken over" in capfd.readouterr().err
    sessions = json.loads(bucket.objects()["provenance.json"])["sessions"]
    assert sessions[-1]["outcome"] == "running"  # not written after the loss


@pytest.mark.parametrize(
    ("uri", "fault", "words"),
    [
        ("s3://no-such-bucket-at-all/x", None, "there is no such bucket"),
        ("BUCKET", Fault(status=403, code="AccessDenied"), "the store refuses"),
        ("BUCKET", Fault(reset="before"), "did not answer as it should"),
        ("hdfs://node/x", None, "not in hdfs://"),
        ("s3://an-id:hunter2-is-my-secret@bucket/x", None, "the environment (AWS_"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_anything_is_started(
    uri: str,
    fault: Fault | None,
    words: str,
    bucket: Bucket,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.5)
    proxy.choose = lambda method, path: fault
    place = bucket.uri() if uri == "BUCKET" else uri
    assert study.main(["tiny.yaml", "--engine", "local", "--out", place]) == 2
    told = capfd.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1
    assert "hunter2" not in told
    assert report.main([place]) in (1, 2)
    assert words in capfd.readouterr().err
    assert bucket.objects() == {}


def test_fresh_and_other_studies_and_other_things(bucket: Bucket) -> None:
    plan, uri = plan_of(STUDY), location(bucket.uri())
    first = open_run(plan, uri, fresh=True)
    assert str(first.where) == bucket.uri()
    assert not first.is_resumed
    second = open_run(plan, uri, fresh=True)
    assert str(second.where) == bucket.uri("a/tiny-2")
    first.close()
    second.close()
    again = open_run(plan, uri, fresh=False)
    assert again.is_resumed
    again.close()
    with pytest.raises(RunRefused, match=rf"^{bucket.uri()}: .*seed: 0 there, 3 here"):
        open_run(plan_of(STUDY, "seed=3"), uri, fresh=False)
    bucket.put("chapter1.tex", b"x", path="thesis")
    with pytest.raises(RunRefused, match=r"this one holds chapter1\.tex and no study\.lock"):
        open_run(plan, location(bucket.uri("thesis")), fresh=False)
    assert bucket.objects("thesis") == {"chapter1.tex": b"x"}
    assert not [name for name in bucket.objects() if name.startswith(".")]


def test_the_store_wins_over_what_a_dead_driver_left_here(bucket: Bucket) -> None:
    plan, uri = plan_of(STUDY), location(bucket.uri())
    open_run(plan, uri, fresh=False).close()
    left = working_folder(uri) / "rows" / "kl-1-000002.parquet"  # type: ignore[arg-type]
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a fi")
    bucket.put("../outside.json", b"{}")
    run = open_run(plan, uri, fresh=False)
    assert not left.exists()
    assert (run.path / "study.lock.yaml").read_bytes() == bucket.objects()["study.lock.yaml"]
    run.close()
    assert not run.path.exists()


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
                build_schedule(plan, run),
                run,
                lambda workers: {},
                observe,
                run_trial=analytic_trial,
            )
        run.close()

    go(tmp_path / "folder", 10**6)
    go(uri, 6)
    asked = [name for name in bucket.objects() if name.endswith("-asked.json")]
    assert 0 < len(asked) < 8
    on_another_machine(monkeypatch)
    go(uri, 10**6)
    events = {n: json.loads(v) for n, v in bucket.objects().items() if n.startswith("search/")}
    for name, event in events.items():
        there = json.loads((tmp_path / "folder" / name).read_text())
        timing = {"seconds": 0, "intermediate": {}}  # what this session saw, and when
        assert event | timing == there | timing
    assert len([name for name in events if name.endswith("-told.json")]) == 8

"""Runs in an object store that fail or are refused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dgray.cli import report, sample, study
from dgray.engine.events import CheckpointDone, Event
from dgray.errors import RunRefusedError
from dgray.record.open_run import open_run
from dgray.record.storage import lease as lease_module
from dgray.record.storage import store as store_module
from dgray.record.storage.location import location
from tests.engine.fake_trial import fake_trial
from tests.record.storage.conftest import Bucket
from tests.record.storage.faulty_proxy import Fault, FaultyProxy
from tests.record.storage.remote import STUDY, plan_of, rows_of

pytestmark = pytest.mark.usefixtures("in_a_hurry")


@pytest.mark.parametrize(
    ("engine", "failing"),
    [
        ("local", "/artifacts/generated"),
        ("local", "/rows/cross_entropy"),
        pytest.param("ray", "/rows/cross_entropy", marks=[pytest.mark.ray, pytest.mark.long]),
        ("local", "/report.html"),
    ],
)
def test_a_failing_store_ends_the_study_with_a_message_and_no_partial_files(
    engine: str,
    failing: str,
    bucket: Bucket,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(
        lease_module, "LEASE_SECONDS", 60.0
    )  # longer than Ray needs to end a trial
    Path("tiny.yaml").write_text(STUDY.replace("[2, 300, 800]", "[2]").replace("800", "2"))
    failed = False

    def choose(method: str, path: str) -> Fault | None:
        nonlocal failed
        failed |= method == "PUT" and failing in path
        return Fault(reset="before") if failed else None

    proxy.choose = choose
    uri = bucket.uri()
    assert study.main(["tiny.yaml", "--engine", engine, "--out", uri]) == 1
    (message,) = capfd.readouterr().err.splitlines()
    assert f"{uri}: the store has failed for " in message
    assert "complete and kept" in message
    assert message.endswith(
        f"To resume: python -m dgray.study tiny.yaml --engine {engine} --out {uri}"
    )
    objects = bucket.objects()
    assert not [name for name in objects if failing in f"/{name}"]
    for name in [name for name in objects if name.startswith("rows/")]:
        num_rows = 1 if "base" in name else 4  # two replicates at two weights
        assert len(rows_of({name: objects[name]})) == num_rows


@pytest.mark.parametrize(
    "command",
    [
        lambda uri: report.main([uri]),
        lambda uri: sample.main([uri, "--num-samples", "2", "--out", "samples"]),
    ],
    ids=["report", "sample"],
)
def test_a_failing_store_ends_reports_and_samples_with_a_message(
    command: Callable[[str], int],
    bucket: Bucket,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.2)
    proxy.choose = lambda method, path: Fault(reset="before")
    assert command(bucket.uri()) == 1
    (message,) = capfd.readouterr().err.splitlines()
    assert message.startswith(f"{bucket.uri()}: the store has failed for ")


def test_a_second_driver_of_a_store_is_refused(
    bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    first = open_run(plan_of(STUDY), location(bucket.uri()), fresh=False)
    assert study.main(["tiny.yaml", "--engine", "local", "--out", bucket.uri()]) == 2
    messages = capfd.readouterr().err
    assert f"one driver at a time, and this one is locked by process {os.getpid()} on " in messages
    assert first.lost is None
    first.close()


def test_a_driver_that_loses_its_lease_stops_writing(
    bucket: Bucket, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def take_over(event: Event) -> None:
        if isinstance(event, CheckpointDone) and not taken:
            for name in [n for n in bucket.objects() if n.startswith(".lock/")]:
                bucket.client.delete_object(Bucket=bucket.name, Key=f"a/tiny/{name}")
            taken.append(time.monotonic())
            while not taken[1:]:
                time.sleep(0.05)  # until the driver is interrupted

    monkeypatch.setattr("dgray.cli.session.Progress.observe", lambda self, event: take_over(event))
    assert study.main(["tiny.yaml", "--engine", "local", "--out", bucket.uri()]) == 1
    assert "lease was not renewed in time or was taken over" in capfd.readouterr().err
    sessions = json.loads(bucket.objects()["provenance.json"])["sessions"]
    assert sessions[-1]["outcome"] == "running"  # not written after the lease was lost


@pytest.mark.parametrize(
    ("uri", "fault", "message"),
    [
        ("s3://no-such-bucket-at-all/x", None, "there is no such bucket"),
        ("BUCKET", Fault(status=403, code="AccessDenied"), "the store refuses"),
        ("BUCKET", Fault(reset="before"), "the store has failed"),
        ("hdfs://node/x", None, "not in hdfs://"),
        ("s3://an-id:hunter2-is-my-secret@bucket/x", None, "the environment (AWS_"),
    ],
)
def test_an_unreachable_place_is_refused_before_anything_is_started(
    uri: str,
    fault: Fault | None,
    message: str,
    bucket: Bucket,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.5)
    proxy.choose = lambda method, path: fault
    place = bucket.uri() if uri == "BUCKET" else uri
    assert study.main(["tiny.yaml", "--engine", "local", "--out", place]) == 2
    messages = capfd.readouterr().err
    assert message in messages
    assert len(messages.splitlines()) == 1
    assert "hunter2" not in messages
    assert report.main([place]) in (1, 2)
    assert message in capfd.readouterr().err
    assert bucket.objects() == {}


def test_fresh_runs_other_studies_and_other_files(bucket: Bucket) -> None:
    plan, uri = plan_of(STUDY), location(bucket.uri())
    first = open_run(plan, uri, fresh=True)
    assert str(first.folder.where) == bucket.uri()
    assert not first.is_resumed
    second = open_run(plan, uri, fresh=True)
    assert str(second.folder.where) == bucket.uri("a/tiny-2")
    first.close()
    second.close()
    again = open_run(plan, uri, fresh=False)
    assert again.is_resumed
    again.folder.write_result(next(fake_trial(plan.trials[0], {"offset": b"1"})))
    again.close()
    with pytest.raises(RunRefusedError, match=rf"^{bucket.uri()}: .*seed: 0 there, 3 here"):
        open_run(plan_of(STUDY, "seed=3"), uri, fresh=False)
    bucket.put("chapter1.tex", b"x", path="thesis")
    with pytest.raises(RunRefusedError, match=r"this one holds chapter1\.tex and no study\.lock"):
        open_run(plan, location(bucket.uri("thesis")), fresh=False)
    assert bucket.objects("thesis") == {"chapter1.tex": b"x"}
    assert not [name for name in bucket.objects() if name.startswith(".")]

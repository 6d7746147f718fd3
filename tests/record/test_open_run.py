"""Place and lock of a run that is created or resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dgray.config.reading.load import load_study
from dgray.errors import RunRefusedError
from dgray.plan.plan import Plan, make_plan
from dgray.record.history import earlier_fields, history_in
from dgray.record.open_run import open_run
from tests.engine.fake_trial import ARTIFACTS, fake_trial, make_trial

STUDY = """\
name: tiny
data: {kind: mixture, name: ring8}
base: {kind: wrong_mixture, mean_scale: 1.1}
discriminator: {width: [8, 16]}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str) -> Plan:
    path = Path("tiny.yaml")
    path.write_text(STUDY)
    return make_plan(load_study(path, overrides))


def test_the_default_folder_is_named_after_the_study() -> None:
    run = open_run(plan(), None, fresh=False)
    assert run.folder.path == Path("runs/tiny")
    assert not run.is_resumed
    run.close()
    lock = load_study(Path("runs/tiny/study.lock.yaml"))
    assert [t.id for t in make_plan(lock).trials] == [t.id for t in plan().trials]


def test_a_study_is_resumed_if_it_is_written_differently() -> None:
    open_run(plan(), None, fresh=False).close()
    run = open_run(
        plan("base.mean_scale=1.10", "description=again", "resources.max_failures=7"),
        None,
        fresh=False,
    )
    assert run.is_resumed
    run.close()
    assert "max_failures: 7" in (run.folder.path / "study.lock.yaml").read_text()


def with_rows() -> None:
    """Make a run with a checkpoint."""
    run = open_run(plan(), None, fresh=False)
    run.folder.write_result(next(iter(fake_trial(make_trial("kl-1"), ARTIFACTS))))
    run.close()


def test_a_run_without_rows_takes_any_study() -> None:
    open_run(plan(), None, fresh=False).close()
    run = open_run(plan("seed=3", "data.name=grid25"), Path("runs/tiny"), fresh=False)
    assert (run.is_resumed, run.is_changed, len(run.history)) == (True, True, 1)
    run.close()
    again = open_run(plan("seed=3", "data.name=grid25"), Path("runs/tiny"), fresh=False)
    assert not again.is_changed
    again.close()


def test_the_lock_holds_the_history_and_remains_a_study() -> None:
    with_rows()
    for override in ("replicates=4", "replicates=5"):
        run = open_run(plan(override), None, fresh=False)
        assert (run.is_resumed, run.is_changed) == (True, True)
        run.close()
    path = Path("runs/tiny/study.lock.yaml")
    first, *later = history_in(path.read_text())
    assert first.changes == ()
    assert [a.changes[0].now for a in later] == [4, 5]
    earlier = earlier_fields({"replicates": 5}, run.history)
    assert earlier == [{"replicates": 4}, {"replicates": 3}]
    assert load_study(path).raw["replicates"] == 5
    title = "# Time of the start, and the fields that changed:"
    earlier_title = "# Asked at, and the fields that changed:"  # as earlier versions wrote it
    assert path.read_text().count(title) == 1
    assert history_in(path.read_text().replace(title, earlier_title)) == [first, *later]
    path.write_bytes(path.read_bytes()[:100])  # the study that was asked last is still taken
    with pytest.raises(RunRefusedError, match="damaged"):
        open_run(plan("replicates=4"), None, fresh=False)
    open_run(plan("replicates=5"), None, fresh=False).close()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=3", "seed: 0 there, 3 here"),
        ("discriminator.width=[8,32]", "discriminator.width: [8, 16] there, [8, 32] here"),
        ("discriminator.depth=4", "discriminator.depth: 3 there, 4 here"),
        ("base.mean_scale=1.3", "base.mean_scale: 1.1 there, 1.3 here"),
        ("data.name=grid25", "data.name: ring8 there, grid25 here"),
        ("diffusion.sigma_max=70", "diffusion.sigma_max: 80.0 there, 70.0 here"),
        ("name=other", "name: tiny there, other here"),
        ("fit.learning_rate_decay=cosine fit.epochs=7", "fit.epochs: "),
        (
            "fit.learning_rate_decay=cosine budget.train_flops=1e8",
            "budget.train_flops: null there",
        ),
        ("correction.kind=sims", "correction.kind: guidance there, sims here"),
        ("resources.cpus_per_trial=2", "resources.cpus_per_trial: 1 there, 2 here"),
    ],
)
def test_another_study_is_refused_with_the_differences(override: str, message: str) -> None:
    with_rows()
    lock = Path("runs/tiny/study.lock.yaml")
    before = lock.read_bytes()
    with pytest.raises(RunRefusedError) as refused:
        open_run(plan(*override.split()), Path("runs/tiny"), fresh=False)
    assert message in str(refused.value)
    assert "--fresh" in str(refused.value)
    assert "--out" in str(refused.value)
    assert lock.read_bytes() == before
    open_run(plan(), None, fresh=False).close()  # the refused run has released the lock


def test_fresh_uses_a_new_folder_and_keeps_the_old_one() -> None:
    open_run(plan(), None, fresh=False).close()
    keep = Path("runs/tiny/rows/kept.parquet")
    keep.parent.mkdir()
    keep.write_bytes(b"rows")
    names = []
    for overrides in ((), ("seed=1",)):
        run = open_run(plan(*overrides), None, fresh=True)
        assert not run.is_resumed
        names.append(run.folder.path.name)
        run.close()
    assert names == ["tiny-2", "tiny-3"]
    assert keep.read_bytes() == b"rows"
    run = open_run(plan(), Path("elsewhere"), fresh=True)
    assert run.folder.path == Path("elsewhere")
    run.close()


def test_a_folder_with_other_files_is_refused_and_not_changed() -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter1.tex").write_text("x")
    with pytest.raises(RunRefusedError, match=r"chapter1\.tex"):
        open_run(plan(), Path("thesis"), fresh=False)
    assert os.listdir("thesis") == ["chapter1.tex"]


def test_partial_files_are_removed_when_a_run_is_opened() -> None:
    open_run(plan(), None, fresh=False).close()
    partial = Path("runs/tiny/rows/.x.parquet.00.partial")
    partial.parent.mkdir()
    partial.touch()
    open_run(plan(), None, fresh=False).close()
    assert not partial.exists()


HOLDER = """
import sys, time
from pathlib import Path
from dgray.record.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_ends() -> None:
    open_run(plan(), None, fresh=False).close()
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, "runs/tiny"],
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunRefusedError, match=f"process {holder.pid} on "):
            open_run(plan(), None, fresh=False)
        holder.kill()
    open_run(plan(), None, fresh=False).close()

"""``python -m dgray.study``: exit status, messages and imports."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from dgray.cli import report, sample
from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.plan.plan import Plan, make_plan
from dgray.record.open_run import open_run
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from tests.engine.fake_trial import ARTIFACTS, fake_trial, make_trial
from tests.record.local_runs import complete

ROOT = Path(__file__).parents[2]
STUDY = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}
discriminator: {width: 8, depth: 2}
fit: {objective: [cross_entropy, oracle], epochs: 4, checkpoints: [2, 4], batch_size: 64}
evaluate:
  guidance_weight: [1.0, calibrated]
  metrics: [path_kl]
  num_points: 20
  num_samples: 20
  num_bins: 4
"""
NUM_ROWS = 1 + 2 + 2 * 2 * 2
LONG = ("--set", "fit.epochs=1000", "fit.checkpoints=[2,100,1000]")


def command(tmp_path: Path, *arguments: str) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return [sys.executable, "-m", "dgray.study", "tiny.yaml", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def study(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, *arguments),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def metric_columns(folder: Path) -> pd.DataFrame:
    rows = RunFolder(folder).rows()[column_names("identity", "metric")]
    keys = ["trial", "replicate", "epoch", "is_calibrated"]
    return rows.sort_values(keys).reset_index(drop=True)


def plan_of(tmp_path: Path, *overrides: str) -> Plan:
    command(tmp_path)
    return make_plan(load_study(tmp_path / "tiny.yaml", overrides))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("uninterrupted")
    complete(plan_of(path, *LONG[1:]), RunFolder(path / "run"))
    return metric_columns(path / "run")


def outcomes(folder: Path) -> list[str]:
    record = json.loads((folder / "provenance.json").read_text())
    return [session["outcome"] for session in record["sessions"]]


def test_a_study_writes_rows_and_report_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done = study(tmp_path, "--engine", "local")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "report: runs/tiny/report.html" in done.stdout
    assert "base (unguided)" in done.stdout
    run = tmp_path / "runs" / "tiny"
    assert len(RunFolder(run).rows()) == NUM_ROWS
    assert {p.name for p in run.iterdir()} >= {
        "study.lock.yaml",
        "provenance.json",
        "rows",
        "report.parquet",
        "report.html",
        "figures",
        "tensorboard",
        "checkpoints",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dgray.reporting.build.render_figures", lambda *inputs: iter(()))
    assert main(["tiny.yaml", "--engine", "local"]) == 0
    again = capfd.readouterr().out
    assert "epoch" not in again.split("nats")[0]  # nothing was run
    assert "report: runs/tiny/report.html" in again
    assert outcomes(run) == ["complete", "complete"]


def test_without_a_report_the_rows_are_stored_and_the_report_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command(tmp_path)
    assert main(["tiny.yaml", "--engine", "local", "--out", "a run", "--no-report"]) == 0
    run = tmp_path / "a run"
    assert "no report was made; to make it: dgray report 'a run'\n" in capsys.readouterr().out
    assert len(RunFolder(run).rows()) == NUM_ROWS
    assert outcomes(run) == ["complete"]
    assert not {"report.html", "report.parquet", "figures"} & {p.name for p in run.iterdir()}
    monkeypatch.setattr("dgray.reporting.build.render_figures", lambda *inputs: iter(()))
    assert report.main(["a run"]) == 0
    assert "tensorboard --logdir 'a run/tensorboard' --host" in capsys.readouterr().out
    assert (run / "report.html").exists()


def test_a_report_in_a_folder_that_cannot_be_written_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path)
    complete(plan, RunFolder(tmp_path / "run"))

    def refuse(**options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(options["dir"]))

    monkeypatch.setattr("dgray.files.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("dgray.cli.rebuild_report.build_report", None)
    assert report.main([str(tmp_path / "run")]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "no file can be created in this one; copy it to a folder of your own" in message


def test_help_and_plan_import_no_torch_or_ray_and_start_nothing(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from dgray.study import main\n"
        "status = main(sys.argv[1:])\n"
        "heavy = {'torch', 'ray', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    for arguments in (["--help"], ["tiny.yaml", "--plan"]):
        command(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert str(NUM_ROWS) in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "fit.epohcs=3"], "did you mean 'epochs'"),
        (["--set", "fit.epochs=-1", "--set", "seed=x"], "seed"),
        (["--engine", "spark"], "'spark' is not one of 'ray', 'local'"),
    ],
)
def test_an_invalid_study_or_command_is_refused_with_status_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = study(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("objective", "status", "message"),
    [
        ("kl", 0, "tiny.yaml: valid; 2 trials\n"),
        ("{factory: 'math:sqrt'}", 2, "fit.objective: math:sqrt: math.sqrt() takes exactly one"),
        ("{factory: 'no_such:sqrt'}", 2, "fit.objective: no_such:sqrt: No module named 'no_such'"),
    ],
)
def test_check_builds_parts_of_other_packages_and_starts_nothing(
    objective: str,
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)
    assert main(["tiny.yaml", "--check", "--set", f"fit.objective={objective}"]) == status
    output, errors = capfd.readouterr()
    place = "" if status == 0 else f"--set fit.objective={objective}: "
    assert (errors if status else output).startswith(place + message)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--out", "s3://me:hunter2@bucket/run"], "s3://***@bucket/run"),
        (["--set", "base.network=https://h/a?sig=hunter2"], "base.network=https://h/a?sig=***"),
    ],
)
def test_credentials_on_the_command_line_are_refused_and_not_repeated(
    arguments: list[str],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    assert main(["tiny.yaml", *arguments]) == 2
    messages = "".join(capfd.readouterr())
    assert f"{shown}: an address on the command line must not hold credentials" in messages
    assert "hunter2" not in messages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yaml"]


def test_a_folder_with_another_study_is_refused_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = open_run(plan_of(tmp_path, "seed=1"), tmp_path / "runs" / "tiny", fresh=False)
    run.folder.write_result(next(iter(fake_trial(make_trial("kl-1"), ARTIFACTS))))
    run.close()
    monkeypatch.chdir(tmp_path)
    assert main(["tiny.yaml", "--engine", "local"]) == 2
    messages = capfd.readouterr().err
    assert "seed: 1 there, 0 here" in messages
    assert "Traceback" not in messages


def test_failed_trials_give_status_1_and_failed_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    diverging = ("--set", "fit.learning_rate=1e9", "fit.weight_decay=1e9")
    command(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["tiny.yaml", "--engine", "local", *diverging]) == 1
    messages = capfd.readouterr().out
    assert f"8 of {NUM_ROWS} rows are missing" in messages
    rows = RunFolder(tmp_path / "runs" / "tiny").rows()
    assert (rows.status == "failed").sum() == 8
    (reason,) = set(rows[rows.status == "failed"].reason)
    assert f"FAILED cross_entropy: {reason}" in messages
    assert outcomes(tmp_path / "runs" / "tiny") == ["incomplete"]
    for trial in ("cross_entropy", rows[rows.status == "failed"].trial.iloc[0]):
        assert sample.main(["runs/tiny", "--trial", trial, "--out", "samples.npz"]) == 2
        shown = " ".join(capfd.readouterr().err.split())
        assert f"runs/tiny: cross_entropy failed: {reason}" in shown


@pytest.mark.parametrize(
    ("engine", "sent"),
    [
        ("local", signal.SIGTERM),
        pytest.param("ray", signal.SIGINT, marks=[pytest.mark.ray, pytest.mark.long]),
        pytest.param("ray", signal.SIGTERM, marks=[pytest.mark.ray, pytest.mark.long]),
    ],
)
def test_an_interrupted_study_prints_how_to_resume_and_completes_with_equal_rows(
    engine: str, sent: signal.Signals, tmp_path: Path, uninterrupted: pd.DataFrame
) -> None:
    with subprocess.Popen(
        command(tmp_path, "--engine", engine, *LONG),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        while "cross_entropy, epoch 2" not in (line := driver.stdout.readline()):
            assert line, driver.communicate()[1]
        start = time.monotonic()
        if sent is signal.SIGINT:
            os.killpg(driver.pid, sent)  # as a terminal does: to all processes
        else:
            driver.send_signal(sent)
        _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert time.monotonic() - start < 20
    assert errors.splitlines() == [
        "stopping ... (once more stops at once)",
        "interrupted; finished work is kept. To resume: python -m dgray.study tiny.yaml "
        f"--engine {engine} --set fit.epochs=1000 'fit.checkpoints=[2,100,1000]' "
        "--out runs/tiny",
    ]
    run = tmp_path / "runs" / "tiny"
    assert outcomes(run) == ["interrupted"]
    assert any((run / "tensorboard").glob("cross_entropy (*/events*"))  # written while it ran
    plan = plan_of(tmp_path, *LONG[1:])
    folder = RunFolder(run)
    assert 0 < folder.missing_rows(plan.trials) < plan.counts.rows
    complete(plan, folder)
    assert folder.missing_rows(plan.trials) == 0
    pd.testing.assert_frame_equal(metric_columns(run), uninterrupted, check_exact=True)


@pytest.mark.parametrize("figure", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_report_that_was_interrupted_is_completed_next_time(
    figure: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)
    arguments = ["tiny.yaml", "--engine", "local"]
    assert main([*arguments, "--out", "undisturbed"]) == 0
    drawn, savefig = [], Figure.savefig

    def interrupted(self: Figure, *args: Any, **options: Any) -> None:
        drawn.append(self)
        savefig(self, *args, **options)
        if len(drawn) == figure:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", interrupted)
        assert main(arguments) == 130
    assert len(drawn) == figure
    messages = capsys.readouterr().err
    assert messages.endswith(
        f"To resume: python -m dgray.study {' '.join(arguments)} --out runs/tiny\n"
    )
    run = Path("runs/tiny")
    rows = {path: path.read_bytes() for path in (run / "rows").iterdir()}
    assert main(arguments) == 0
    assert "nothing is left to run\nmaking the report (about " in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (run / "rows").iterdir()} == rows
    assert files(run) == files(Path("undisturbed"))


def files(run: Path) -> set[str]:
    """Names, without the times that are in those of event files."""
    paths = (path for path in run.rglob("*") if path.is_file())
    return {str(path.relative_to(run)).partition(".tfevents.")[0] for path in paths}

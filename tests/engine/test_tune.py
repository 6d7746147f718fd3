"""The Ray engine alone: lost workers, refused requests, loopback only, a clean end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from dgray.cli.progress import Progress
from dgray.cli.time_left import TimeLeft
from dgray.engine.events import EngineStarted, Event, TrialFailed, WorkerLost
from dgray.errors import RunRefusedError
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import EPOCHS, fake_trial, make_plan, make_trial, prepare

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("ray_running")
def test_a_worker_that_keeps_dying_fails_its_trial_only(tmp_path: Path) -> None:
    from dgray.engine import tune

    log = Path(os.path.relpath(tmp_path / "log"))  # relative to the driver's folder
    bad = make_trial("bad", die_at=EPOCHS[1], log=str(log), max_failures=1)
    plan = make_plan(bad, make_trial("kl-1", max_failures=1))
    folder = RunFolder(tmp_path / "run")
    events: list[Event] = []
    tune.run(
        GridSchedule(plan.trials, folder), folder, prepare, events.append, run_trial=fake_trial
    )
    (failure,) = [e for e in events if isinstance(e, TrialFailed)]
    assert failure.trial_id == "bad"
    assert failure.reason.startswith(
        "its worker was lost 2 times; the last reason: its process exited, crashed"
    )
    (lost,) = [e for e in events if isinstance(e, WorkerLost)]
    assert (lost.task, lost.times) == ("bad", 1)
    assert folder.completed_epochs("kl-1") == set(EPOCHS)
    assert folder.completed_epochs("bad") == {EPOCHS[0]}
    rows = folder.rows()
    assert set(rows[rows.status == "failed"].reason) == {failure.reason}
    assert log.read_text().splitlines() == ["bad 2", "bad 5", "bad 5"]  # tried again once


@pytest.mark.parametrize("max_failures", [0, 1])
@pytest.mark.usefixtures("ray_running")
def test_a_reused_worker_that_dies_before_its_next_trial_is_one_lost_worker(
    tmp_path: Path, max_failures: int
) -> None:
    from dgray.engine import tune

    one_place = {"cpus": os.cpu_count(), "max_failures": max_failures}
    plan = make_plan(
        make_trial("kl-1", **one_place, die_when_reused=True), make_trial("kl-2", **one_place)
    )
    folder = RunFolder(tmp_path / "run")
    schedule = GridSchedule(plan.trials, folder)
    events: list[Event] = []
    console = Console(file=(output := io.StringIO()))

    def observe(event: Event) -> None:
        events.append(event)
        progress.observe(event)

    time_left = TimeLeft(artifact_seconds=0.0, report_seconds=0.0, parallel=1)
    progress = Progress(schedule, folder, console, time_left)
    tune.run(schedule, folder, prepare, observe, run_trial=fake_trial)
    lost = [(e.task, e.times) for e in events if isinstance(e, WorkerLost)]
    failed = [e.trial_id for e in events if isinstance(e, TrialFailed)]
    if max_failures:
        assert (lost, failed) == ([("kl-2", 1)], [])
        assert folder.completed_epochs("kl-2") == set(EPOCHS)
    else:
        assert (lost, failed) == ([], ["kl-2"])
        assert "FAILED kl-2: its worker was lost" in output.getvalue()


@pytest.mark.usefixtures("ray_running")
def test_an_impossible_request_is_refused_before_the_start(tmp_path: Path) -> None:
    from dgray.engine import tune

    plan = make_plan(make_trial("kl-1", cpus=100_000))
    with pytest.raises(RunRefusedError, match=r"requests 100000 CPU, 0 GPU and there is .*--set"):
        tune.run(
            GridSchedule(plan.trials, RunFolder(tmp_path)),
            RunFolder(tmp_path),
            prepare,
            lambda event: None,
            run_trial=fake_trial,
        )


@pytest.mark.usefixtures("ray_running")
def test_ctrl_c_stops_the_trials_and_leaves_a_running_ray_alone(tmp_path: Path) -> None:
    import ray

    from dgray.engine import tune

    plan = make_plan(*(make_trial(f"kl-{i}", seconds=0.2) for i in range(40)))
    folder, before = RunFolder(tmp_path), signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])

    def interrupt_once_started(event: Event) -> None:
        if isinstance(event, EngineStarted):
            assert event.where == "the Ray of this process"
            timer.start()

    with pytest.raises(KeyboardInterrupt):
        tune.run(
            GridSchedule(plan.trials, folder),
            folder,
            prepare,
            interrupt_once_started,
            run_trial=fake_trial,
        )
    assert ray.is_initialized()
    assert signal.getsignal(signal.SIGINT) is before
    assert folder.missing_rows(plan.trials) > 0
    free = ray.cluster_resources()["CPU"]
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != free and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == free


def run_script(text: str, tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        # Without the token of the Ray that this module's other tests use.
        env={
            n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "RAY_AUTH_TOKEN_PATH")
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


LOOPBACK = """
import glob, os, stat, sys
sys.path.insert(0, sys.argv[1])
from dgray.cli.study import main
from dgray.engine.ray_session import ray_session

SECRETS = {name: v for name, v in os.environ.items() if v.endswith(" that nobody may read")}

def read(path):
    with open(path, "rb") as file:
        return file.read().decode("latin-1")

def listening(pids):
    inodes = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{table}").readlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                yield fields[1].split(":")[0]

def family():
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(pid)] = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, size = {os.getpid()}, 0
    while len(family) > size:
        size = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    return family

def files():
    for place in (os.environ["TMPDIR"], os.environ["HOME"], os.getcwd()):
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path

if __name__ == "__main__":
    before = os.environ.copy()
    with ray_session():
        import ray
        (folder,) = glob.glob(os.environ["TMPDIR"] + "/dgray-ray-*")
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert ray.cluster_resources()["CPU"] == 1
        seen = ray.get(ray.remote(lambda: dict(os.environ)).remote())
        assert len(SECRETS) == 10
        assert all(seen[name] == secret for name, secret in SECRETS.items())
        addresses = list(listening(family()))
        assert main(["tiny.yaml", "--out", "run", "--no-report"]) == 0
        logs = [path for path in files() if "/logs/" in path]
        assert any("runtime_env" in path for path in logs), logs
        kept = {path for path in files() if any(s in read(path) for s in SECRETS.values())}
        assert kept == set(), kept
        token = os.environ["RAY_AUTH_TOKEN_PATH"]  # in a short folder with a link to the long one
        assert os.stat(os.path.dirname(token)).st_mode & 0o777 == 0o700
        assert not [path for path in files() if read(token) in read(path)]
    assert not glob.glob(os.environ["TMPDIR"] + "/dgray-*")
    assert not os.path.exists(os.path.dirname(token))
    assert not os.path.exists(os.environ["HOME"] + "/.ray")
    assert before.items() <= os.environ.items()
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
    assert len(addresses) >= 4, addresses
    assert all(a in loopback for a in addresses), addresses
"""
STUDY = """\
name: tiny
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}
discriminator: {width: 8, depth: 2}
fit: {objective: kl, epochs: 2, batch_size: 64}
evaluate: {guidance_weight: 1, metrics: [path_kl], num_points: 20, num_samples: 20, num_bins: 4}
"""
SECRETS = {
    "AWS_ACCESS_KEY_ID": "an id of AWS that nobody may read",
    "AWS_SECRET_ACCESS_KEY": "a secret of AWS that nobody may read",
    "AWS_SECURITY_TOKEN": "an old token of AWS that nobody may read",
    "AWS_SESSION_TOKEN": "a token of AWS that nobody may read",
    "AZURE_CLIENT_SECRET": "a secret of Azure that nobody may read",
    "AZURE_STORAGE_KEY": "a key of Azure that nobody may read",
    "GOOGLE_APPLICATION_CREDENTIALS": "/a file of Google that nobody may read",
    "HF_TOKEN": "a token of a hub that nobody may read",
    "WANDB_API_KEY": "a key of a service that nobody may read",
    "SOME_PASSWORD": "a password that nobody may read",
}


def test_its_own_ray_listens_on_loopback_only_and_reveals_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one start of Ray: in a folder too long for sockets, on one CPU."""
    places = {"TMPDIR": tmp_path / ("long" * 20), "HOME": tmp_path / "home"}
    for name, place in places.items():
        place.mkdir()
        monkeypatch.setenv(name, str(place))
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    (tmp_path / "tiny.yaml").write_text(STUDY)
    done = run_script(LOOPBACK, tmp_path, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("address", ["ray://head:10001", "http://127.0.0.1:8265"])
def test_the_address_of_a_ray_client_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgray.engine import ray_session

    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RunRefusedError, match="RAY_ADDRESS=auto"), ray_session.ray_session():
        pass

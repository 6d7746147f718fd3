"""A run that takes more: only what is new is computed, and the bits are those of a new run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dgray.catalogue import CORRECTIONS
from dgray.cli.growth_view import growth_lines
from dgray.plan import plan
from dgray.record.history import history_in
from dgray.record.open_run import open_run
from dgray.record.run_folder import RunFolder
from tests.growth.sessions import CORRECTIONS as CORRECTED
from tests.growth.sessions import IMAGES, Sessions, check_same

WEIGHTS = "evaluate.guidance_weight=[0.5, calibrated, 2]"
BOTH = "evaluate.sampler=[sde, ode]"
LONGER = ["fit.epochs=9", "fit.checkpoints=[2, 4, 6, 9]"]
# Overrides of the grown study, epochs that it trains, and checkpoints that it computes.
SHORT = {
    "settings": ([WEIGHTS, BOTH, "evaluate.metrics=[path_kl, kl_sde, kl]"], 0, 4),
    "checkpoints": (LONGER, 5, 2),
    "axis": (["discriminator.width=[16, 20]"], 6, 2),
}
LONG = {
    "weight": ([WEIGHTS], 0, 3),
    "sampler": ([BOTH], 0, 4),
    "steps": (["evaluate.num_steps=[2, 3]"], 0, 4),
    "interval": (["evaluate.guidance_interval=[null, [0.1, 1]]"], 0, 3),
    "metric": (["evaluate.metrics=[path_kl, kl_sde, memorisation]"], 0, 4),
    "other setting": (["evaluate.num_samples=24"], 0, 4),
    "other checkpoint": (["fit.epochs=9", "fit.checkpoints=[2, 9]"], 3, 1),
    "axis of data": (["data.num_real=[48, 32]"], 6, 2),
    "objective": (["fit.objective=[cross_entropy, kl, oracle]"], 6, 2),
    "replicates": (["replicates=3"], 6, 2),
    "all": ([WEIGHTS, *LONGER, "discriminator.width=[16, 20]"], 14, 9),
    "fewer": (["evaluate.guidance_weight=0.5", "fit.objective=cross_entropy"], 0, 2),
}
ALL_KINDS = f"correction.kind=[{', '.join(spec.name for spec in CORRECTIONS)}]"
OF_CORRECTIONS = {
    "kinds": ([ALL_KINDS], 28, 14),
    "calibrated": (["evaluate.guidance_weight=[1, calibrated]"], 0, 4),
    "weight": (["evaluate.guidance_weight=[1, 0.5]"], 0, 4),
    "restart": (["evaluate.sampler=[sde, restart]"], 0, 5),
    "metrics": (["evaluate.metrics=[path_kl, kl_sde, observable_path_kl]"], 0, 5),
    "replicates": (["replicates=3"], 8, 4),
    "checkpoint": (["fit.epochs=6", "fit.checkpoints=[2, 4, 6]"], 4, 2),
    "option": (["correction.max_ratio=[2, 4]"], 4, 2),
    "objective": (["fit.objective=[cross_entropy, kl]"], 4, 2),
    "budget": (["budget.train_flops=1e5"], 34, 4),  # 26 and 16 epochs, from the states at 4
}
OF_IMAGES = {
    "weight": (["evaluate.guidance_weight=[1, calibrated, 2]"], 0, 2),
    "metric": (["evaluate.metrics=[path_kl, memorisation, fd]"], 0, 3),
    "checkpoint": (["fit.checkpoints=[2, 3, 4]"], 1, 1),
    "replicates": (["replicates=3"], 4, 2),
}


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    return Sessions(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    root = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        Sessions(root, patch).run("run")
    return root / "run"


@pytest.fixture(scope="module")
def of_corrections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of two corrections."""
    root = tmp_path_factory.mktemp("corrections")
    with pytest.MonkeyPatch.context() as patch:
        Sessions(root, patch, CORRECTED).run("run")
    return root / "run"


def check_growth(sessions: Sessions, case: tuple[list[str], int, int]) -> None:
    """Check that the run ``grown`` takes a study, and what is computed for that."""
    overrides, trained, checkpoints = case
    path = sessions.root / "grown"
    before = {file.name: file.read_bytes() for file in (path / "rows").iterdir()}
    grown = sessions.run("grown", *overrides)
    assert (sessions.trained, sessions.checkpoints) == (trained, checkpoints)
    _, entry = history_in((path / "study.lock.yaml").read_text())
    assert {change.field for change in entry.changes} == {o.split("=")[0] for o in overrides}
    check_same(grown, sessions.run("fresh", *overrides))
    sessions.run("grown")  # the first study again
    assert (sessions.trained, sessions.checkpoints) == (0, 0)
    assert {file.name: file.read_bytes() for file in (path / "rows").iterdir()} == before


@pytest.mark.parametrize("case", SHORT)
def test_a_run_grows_to_the_bits_of_a_new_run(case: str, first: Path, sessions: Sessions) -> None:
    shutil.copytree(first, sessions.root / "grown")
    check_growth(sessions, SHORT[case])


@pytest.mark.long
@pytest.mark.parametrize("case", LONG)
def test_each_kind_of_growth(case: str, first: Path, sessions: Sessions) -> None:
    shutil.copytree(first, sessions.root / "grown")
    check_growth(sessions, LONG[case])


@pytest.mark.parametrize(
    "case",
    [
        case if case == "budget" else pytest.param(case, marks=pytest.mark.long)
        for case in OF_CORRECTIONS
    ],
)
def test_a_run_of_corrections_grows(
    case: str, of_corrections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(of_corrections, tmp_path / "grown")
    check_growth(Sessions(tmp_path, monkeypatch, CORRECTED), OF_CORRECTIONS[case])


@pytest.mark.long
@pytest.mark.parametrize("case", OF_IMAGES)
def test_a_run_of_images_grows(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(tmp_path, monkeypatch, IMAGES)
    sessions.run("grown")
    check_growth(sessions, OF_IMAGES[case])


def test_growth_can_start_and_stop_anywhere(sessions: Sessions) -> None:
    overrides = [WEIGHTS, *LONGER]
    sessions.run("grown", stop_after=2)  # base and oracle are complete, or a checkpoint is
    sessions.run("grown", *overrides, stop_after=2)
    sessions.run("grown", *overrides, stop_after=1)
    grown = sessions.run("grown", *overrides)
    assert sessions.checkpoints > 0
    check_same(grown, sessions.run("fresh", *overrides))


def test_what_is_new_is_stated_first(first: Path, sessions: Sessions) -> None:
    shutil.copytree(first, sessions.root / "grown")
    sessions.run("grown", WEIGHTS, *LONGER, stop_after=1)
    plan = sessions.plan([WEIGHTS, *LONGER])
    run = open_run(plan, sessions.root / "grown", fresh=False)
    text = "\n".join(growth_lines(plan, run))
    run.close()
    assert "evaluate.guidance_weight: added 2.0" in text
    assert "fit.checkpoints: added 4, 9" in text
    assert "fit.epochs: 6 -> 9" in text
    assert "12 rows at 2 checkpoints of 1 trial" in text  # trained: 2 replicates, 3 settings
    assert "3 checkpoints, kept in" in text


def test_settings_that_a_later_version_plans_are_evaluated(
    first: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial ids are the same, since the study is."""
    settings = plan._settings
    with monkeypatch.context() as earlier:
        earlier.setattr(plan, "_settings", lambda config: settings(config)[:-1])
        old = sessions.run("old")
    assert sessions.checkpoints == 4
    incomplete = len(old.rows())
    again = sessions.run("old")
    assert (sessions.trained, sessions.checkpoints) == (0, 3)  # the base has the same settings
    rows = [line for line in again.left_out if line.startswith("rows/")]
    reasons = {line.partition(": ")[2] for line in rows}
    assert reasons == {
        "it has 1 rows, but this version of dgray plans 2",
        "it has 2 rows, but this version of dgray plans 4",
    }
    assert incomplete < len(again.rows())
    check_same(again, RunFolder(first))
    sessions.run("old")
    assert sessions.checkpoints == 0

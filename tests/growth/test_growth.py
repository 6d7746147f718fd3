"""A run that takes more: only what is new is computed, and the bits are those of a new run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.record.history import history_in
from tests.growth.sessions import Sessions, check_same

# Overrides of the grown study, epochs that it trains, and checkpoints that it computes.
CASES = {
    "weight": (["evaluate.guidance_weight=[0.5, calibrated, 2]"], 0, 3),
    "sampler": (["evaluate.sampler=[sde, ode]"], 0, 4),
    "steps": (["evaluate.num_steps=[2, 3]"], 0, 4),
    "interval": (["evaluate.guidance_interval=[null, [0.1, 1]]"], 0, 3),
    "metric": (["evaluate.metrics=[path_kl, kl_sde, memorisation]"], 0, 4),
    "flow": (["evaluate.metrics=[path_kl, kl_sde, kl]", "evaluate.sampler=[sde, ode]"], 0, 4),
    "other setting": (["evaluate.num_samples=24"], 0, 4),
    "later checkpoint": (["fit.epochs=9", "fit.checkpoints=[2, 6, 9]"], 3, 1),
    "checkpoint between": (["fit.checkpoints=[2, 4, 6]"], 2, 1),
    "other checkpoint": (["fit.epochs=9", "fit.checkpoints=[2, 9]"], 3, 1),
    "axis": (["discriminator.width=[16, 20]"], 6, 2),
    "axis of data": (["data.num_real=[48, 32]"], 6, 2),
    "objective": (["fit.objective=[cross_entropy, kl, oracle]"], 6, 2),
    "replicates": (["replicates=3"], 6, 2),
    "both": (["fit.checkpoints=[2, 4, 6]", "evaluate.guidance_weight=[0.5, calibrated, 1]"], 2, 4),
    "fewer": (["evaluate.guidance_weight=0.5", "fit.objective=cross_entropy"], 0, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_grows_to_the_bits_of_a_new_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides, trained, checkpoints = CASES[case]
    sessions = Sessions(tmp_path, monkeypatch)
    first = sessions.run("grown")
    before = {n: (tmp_path / "grown" / n).read_bytes() for n in first.files.names("rows")}
    grown = sessions.run("grown", *overrides)
    assert (sessions.trained, sessions.checkpoints) == (trained, checkpoints)
    lock = (tmp_path / "grown" / "study.lock.yaml").read_text()
    _, asked = history_in(lock)
    assert {change.field for change in asked.changes} == {o.split("=")[0] for o in overrides}
    check_same(grown, sessions.run("fresh", *overrides))
    back = sessions.run("grown")  # the first study again
    assert (sessions.trained, sessions.checkpoints) == (0, 0)
    assert {n: (tmp_path / "grown" / n).read_bytes() for n in back.files.names("rows")} == before

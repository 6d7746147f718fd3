"""Sessions of a small study in this process, without a report, and what they trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dgray.config.reading.load import load_study
from dgray.discriminator.fit import FitCheckpoint, Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.engine import local
from dgray.plan.plan import Plan, make_plan
from dgray.problem.shared import build_artifacts
from dgray.record.open_run import open_run
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.record.storage.location import Uri
from dgray.record.tables import trial_and_epoch
from dgray.search.build import build_schedule
from dgray.search.records import no_recall
from dgray.search.reuse import Reuse
from dgray.trial import run as trial_run

POINTS = """\
name: grows
replicates: 2
data: {kind: mixture, name: ring8, num_real: 48, num_validation: 48, num_held_out: 48}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 48}
discriminator: {width: 16, depth: 2}
fit: {objective: [cross_entropy, oracle], epochs: 6, checkpoints: [2, 6], batch_size: 48}
evaluate:
  guidance_weight: [0.5, calibrated]
  sampler: sde
  num_steps: 2
  metrics: [path_kl, kl_sde]
  num_points: 6
  num_samples: 20
  num_bins: 4
  sigmas_per_bin: 2
  max_steps: 40
  tolerance: 0.3
"""
IMAGES = """\
name: grows
replicates: 2
data: {kind: digits, num_real: 24, num_validation: 40, num_held_out: 40}
base: {kind: trained, width: 16, depth: 1, steps: 4, batch_size: 8, num_generated: 24,
  generation_steps: 2, num_real: 200}
discriminator: {width: 8, depth: 1}
fit: {objective: cross_entropy, epochs: 4, checkpoints: [2, 4], batch_size: 12}
evaluate:
  guidance_weight: [1, calibrated]
  num_steps: 2
  metrics: [path_kl, memorisation]
  num_points: 4
  num_samples: 12
  shard_size: 5
  num_bins: 2
  sigmas_per_bin: 2
  num_noised: 8
  tolerance: 1
"""
CORRECTIONS = """\
name: grows
replicates: 2
data: {kind: mixture, name: ring8, num_real: 20, num_validation: 20, num_held_out: 20}
base: {kind: trained, width: 6, depth: 1, steps: 5, num_real: 20, num_generated: 20,
  generation_steps: 2}
correction: {kind: [neon, rejection], max_ratio: 2, moves: 2}
discriminator: {width: 6, depth: 1}
fit: {objective: cross_entropy, epochs: 4, checkpoints: [2, 4], batch_size: 10}
evaluate:
  guidance_weight: 1
  sampler: sde
  num_steps: 2
  metrics: [path_kl, kl_sde]
  num_points: 4
  num_samples: 20
  num_bins: 2
  sigmas_per_bin: 2
  num_noised: 8
  max_steps: 40
  tolerance: 0.3
"""


class Sessions:
    """Sessions of one study file in a folder.

    Attributes:
        trained: epochs trained in the last session, over all trials.
        checkpoints: checkpoints computed in the last session.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, text: str = POINTS) -> None:
        self.root, self._text = root, text
        self.trained, self.checkpoints = 0, 0

        def counting(
            task: Task, schedule: TrainingSchedule, state: TrainingState, *rest: Any
        ) -> Iterator[FitCheckpoint]:
            first = state.epoch
            for step in fit(task, schedule, state, *rest):
                self.trained += step.epoch - first
                first = step.epoch
                yield step

        monkeypatch.setattr(trial_run, "fit", counting)

    def plan(self, overrides: Sequence[str]) -> Plan:
        path = self.root / "study.yaml"
        path.write_text(self._text)
        return make_plan(load_study(path, overrides))

    def run(self, name: str | Uri, *overrides: str, stop_after: int | None = None) -> RunFolder:
        """Run the study in a folder or store.

        Args:
            name: name of the folder, or URI.
            overrides: fields to replace.
            stop_after: number of checkpoints after which it is interrupted; None: it is not.
        """
        self.trained = self.checkpoints = 0
        plan = self.plan(overrides)
        place = self.root / name if isinstance(name, str) else name
        run = open_run(plan, place, fresh=False)
        try:
            recall = no_recall
            if run.is_grown:
                recall = Reuse(plan, run.folder, run.history).recall
            schedule = build_schedule(plan, run.folder, recall)

            def observe(event: object) -> None:
                self.checkpoints += type(event).__name__ == "CheckpointDone"
                if self.checkpoints == stop_after:
                    raise KeyboardInterrupt

            if schedule.examples:
                made = partial(build_artifacts, schedule.examples, run.folder)
                local.run(schedule, run.folder, made, observe)
        except KeyboardInterrupt:
            pass
        finally:
            run.close()
        return run.folder


def rows(folder: RunFolder) -> pd.DataFrame:
    """Return identity and metric columns of all rows, sorted."""
    table = folder.rows()[column_names("identity", "metric")]
    assert len(table)
    keys = ["trial", "replicate", "epoch", "sampler", "num_steps", "guided_stage"]
    keys += ["interval_low", "is_calibrated", "guidance_weight"]
    return table.sort_values(keys).reset_index(drop=True)


def check_same(grown: RunFolder, fresh: RunFolder) -> None:
    """Check that two runs hold the same files of results, with the same rows, bit for bit."""
    for kind in ("rows", "samples", "losses", "checkpoints", "search"):
        assert grown.files.names(kind) == fresh.files.names(kind)
    pd.testing.assert_frame_equal(rows(grown), rows(fresh), check_exact=True)
    pd.testing.assert_frame_equal(grown.clouds(), fresh.clouds(), check_exact=True)
    for name in fresh.files.names("checkpoints"):
        part = trial_and_epoch(name)
        assert part is not None
        assert grown.read_state(*part) == fresh.read_state(*part)

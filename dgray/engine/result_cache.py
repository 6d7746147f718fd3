"""Results that studies share: a trial that another run has computed is copied, not run again.

    CACHE/KEY/    a run folder with one trial; KEY: all that its numbers depend on

Knows run folders and which artifacts a trial uses; neither Ray nor how a trial is computed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import dgray
from dgray.config.reading.relevance import relevant_config
from dgray.plan.plan import Trial
from dgray.problem.shared import artifact_keys
from dgray.record.row import CheckpointResult
from dgray.record.run_folder import RunFolder

_LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")


class ResultCache:
    """The results in one folder, as one run sees them."""

    def __init__(
        self,
        root: Path,
        folder: RunFolder,
        recalled: Callable[[CheckpointResult], None] = lambda result: None,
    ) -> None:
        """``folder``: of the run; ``recalled``: told of every checkpoint that was copied to it."""
        self._root, self._folder, self._recalled = root, folder, recalled

    def recall(self, trial: Trial) -> None:
        """Copy the checkpoints that the run lacks, up to the first that the cache lacks too.

        Rows say where they come from (``copied_from``); what the study calls the trial is its own.
        """
        owed = self._folder.missing_epochs(trial)
        if not owed:
            return
        known = RunFolder(self._root / self._key(trial))
        there = known.completed_epochs(trial.id)
        for epoch in trial.epochs:
            if epoch not in owed:
                continue
            if epoch not in there:
                return
            result = _named(known.read_result(trial.id, epoch), trial)
            self._folder.write_result(result)
            self._recalled(result)

    def keep(self, trial: Trial, epoch: int) -> None:
        """Let other studies have a checkpoint of this run."""
        known = RunFolder(self._root / self._key(trial))
        if epoch in known.completed_epochs(trial.id):
            return
        result = self._folder.read_result(trial.id, epoch)
        where = self._folder.where
        where = where.absolute() if isinstance(where, Path) else where
        origin = f"{where}, {result.rows[0].finished_at}"
        rows = tuple(replace(row, copied_from=row.copied_from or origin) for row in result.rows)
        known.write_result(replace(result, rows=rows))

    def _key(self, trial: Trial) -> str:
        """Of the resolved trial, its data and all that it shares, the code and its libraries."""
        contents = [self._folder.read_artifact(key) for key in artifact_keys(trial)]
        if None in contents:
            raise RuntimeError(f"artifacts of {trial.label} must be made before it is looked up")
        resources = trial.config.resources
        defining = {
            "trial": relevant_config(trial.config, trial.objective),
            "artifacts": [hashlib.sha256(content or b"").hexdigest() for content in contents],
            "threads": resources.cpus_per_trial,
            "device": "cuda" if resources.gpus_per_trial else resources.device,
            "code": _code(),
        }
        text = json.dumps(defining, sort_keys=True)
        return f"{trial.id}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _named(result: CheckpointResult, trial: Trial) -> CheckpointResult:
    """With this study's words for the trial: another may have other axes."""
    axes = json.dumps(dict(trial.axes))
    rows = tuple(replace(row, label=trial.label, axes=axes) for row in result.rows)
    return replace(result, rows=rows)


@cache
def _code() -> list[str]:
    """What computes: a digest of dgray's own sources, and versions of what it calls."""
    package = Path(dgray.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return [digest.hexdigest(), platform.python_version(), platform.machine(), *versions]

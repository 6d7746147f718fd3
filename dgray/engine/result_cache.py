"""Cache of results across studies: a trial that another run has computed is copied.

    CACHE/KEY/    run folder with one trial; KEY is a hash of the inputs of its numbers

Imports no Ray.
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
from dgray.errors import RecordError
from dgray.plan.plan import Trial
from dgray.problem.shared import artifact_keys
from dgray.record.row import CheckpointResult
from dgray.record.run_files import Seals
from dgray.record.run_folder import RunFolder
from dgray.record.seal import Identity

_LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")


class ResultCache:
    """Cache in one folder, used by one run."""

    def __init__(
        self,
        root: Path,
        folder: RunFolder,
        recalled: Callable[[CheckpointResult], None] = lambda result: None,
    ) -> None:
        """Open the cache at ``root``; ``recalled`` is called with each copied checkpoint."""
        self._root, self._folder, self._recalled = root, folder, recalled

    def recall(self, trial: Trial) -> None:
        """Copy missing checkpoints into the run, up to the first that the cache lacks.

        Column ``copied_from`` of their rows states the origin; the trial's label is this study's.
        """
        missing = self._folder.missing_epochs(trial)
        if not missing:
            return
        cached = self._cached(trial)
        cached_epochs = cached.completed_epochs(trial.id)
        for epoch in trial.epochs:
            if epoch not in missing:
                continue
            if epoch not in cached_epochs:
                return
            try:
                result = _relabelled(cached.read_result(trial.id, epoch), trial)
            except RecordError:
                cached.delete_rows(trial.id, epoch)  # so that it is cached again
                return
            self._folder.write_result(result)
            self._recalled(result)

    def keep(self, trial: Trial, epoch: int) -> None:
        """Copy a checkpoint of this run into the cache."""
        cached = self._cached(trial)
        if epoch in cached.completed_epochs(trial.id):
            return
        result = self._folder.read_result(trial.id, epoch)
        where = self._folder.where
        where = where.absolute() if isinstance(where, Path) else where
        origin = f"{where}, {result.rows[0].finished_at}"
        rows = tuple(replace(row, copied_from=row.copied_from or origin) for row in result.rows)
        cached.write_result(replace(result, rows=rows))

    def _cached(self, trial: Trial) -> RunFolder:
        key = self._key(trial)
        identity = Identity("result cache", str(trial.config.seed), key)
        return RunFolder(self._root / key, seals=Seals(identity, is_required=True))

    def _key(self, trial: Trial) -> str:
        """Return a digest of the trial's settings, its artifacts, the code and its libraries."""
        contents = [self._folder.read_artifact(key) for key in artifact_keys(trial)]
        if None in contents:
            raise RuntimeError(f"artifacts of {trial.label} must be built before it is looked up")
        resources = trial.config.resources
        defining = {
            "trial": relevant_config(trial.config, trial.objective),
            "artifacts": [hashlib.sha256(content or b"").hexdigest() for content in contents],
            "threads": resources.cpus_per_trial,
            **{name: True for name in ("compile", "channels_last") if getattr(resources, name)},
            "device": "cuda" if resources.gpus_per_trial else resources.device,
            "code": _code(),
        }
        text = json.dumps(defining, sort_keys=True)
        return f"{trial.id}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _relabelled(result: CheckpointResult, trial: Trial) -> CheckpointResult:
    """Return a result with the label and axes that the trial has in this study."""
    axes = json.dumps(dict(trial.axes))
    rows = tuple(replace(row, label=trial.label, axes=axes) for row in result.rows)
    return replace(result, rows=rows)


@cache
def _code() -> list[str]:
    """Return a digest of dgray's sources, and the versions of Python and the libraries."""
    package = Path(dgray.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return [digest.hexdigest(), platform.python_version(), platform.machine(), *versions]

"""Selection of the model to sample from: of a run, or a stored network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dgray.catalogue import SETTING_COLUMNS
from dgray.cli.sample import CALIBRATED
from dgray.config.bases import EdmBase
from dgray.config.reading.load import load_study
from dgray.correction.weight import SplineWeight
from dgray.errors import NetworkError, NoSuchModelError, RecordError
from dgray.plan.cells import Point, cells_of, point_trial
from dgray.plan.plan import Setting, Trial, make_plan
from dgray.problem.base_model import import_edm
from dgray.problem.build import build_problem, build_training
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import artifact_keys
from dgray.record.inspect import MISSING
from dgray.record.run_files import LOCK_FILE
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import table_of
from dgray.reporting.searches import read_searches
from dgray.reporting.selection import trained
from dgray.reporting.trial_names import find_trial, name_of
from dgray.search.records import Asked, read_events
from dgray.trial.guided_model import BaseRecipe, RunRecipe

ZERO_WEIGHT = "its calibrated weight is 0 at every noise level, so this model is the unguided base"


def base_recipe(source: str, *, num_steps: int, seed: int) -> BaseRecipe:
    """Return the recipe of a stored network: a file, an https address or a short name.

    Raises:
        NetworkError: there is no such network, or dgray cannot use it.
    """
    try:
        content = import_edm(EdmBase(kind="edm", network=source), log=print)
    except ValueError as error:  # also of pydantic
        raise NetworkError(str(error)) from error
    return BaseRecipe(content, seed, num_steps, f"{Path(source).name}, unguided")


def run_recipe(
    run: RunFolder,
    *,
    trial: str,
    replicate: int,
    weight: float | str | None,
    epoch: int | None = None,
) -> RunRecipe:
    """Return the recipe of a corrected model of a run.

    Args:
        run: folder of the run.
        trial: name or id of a trial (see ``find_trial``), or ``best``: the setting with the best
            mean over replicates on the validation split, among those chosen by searches if there
            are any.
        replicate: replicate of the trial's discriminators.
        weight: guidance weight, or ``calibrated``; None: that of the best row.
        epoch: checkpoint of the trial; None: that of the best row, or else the last one.

    Raises:
        NoSuchModelError: the run has no such model.
    """
    row = _row(run, trial, replicate, epoch, is_calibrated=weight == CALIBRATED)
    return recipe_of(run, row, None if isinstance(weight, str) else weight)


def recipe_of(run: RunFolder, row: pd.Series, weight: float | str | None) -> RunRecipe:
    """Return the recipe of the model of one row, perhaps at another guidance weight.

    Args:
        run: folder of the run.
        row: row of the model.
        weight: guidance weight, or ``calibrated``; None: that of the row.

    Raises:
        NoSuchModelError: the run lacks the trial or the checkpoint, or has no such weight.
    """
    replicate = int(row["replicate"])
    if isinstance(weight, str):
        row, weight = _at_calibrated_weight(_of_replicate(run, replicate), row, weight), None
    trials = {t.id: t for t in _trials(run)}
    if row["trial"] not in trials:
        raise NoSuchModelError(
            f"{run.where}: the trial {row['trial']} is not in its study.lock.yaml as this "
            "version of dgray reads it; sample with the version that ran the study"
        )
    chosen = trials[row["trial"]]
    contents = {key: run.read_artifact(key) for key in artifact_keys(chosen)}
    artifacts = {key: content for key, content in contents.items() if content is not None}
    if missing := contents.keys() - artifacts.keys():
        raise NoSuchModelError(
            f"{run.where}: the artifacts {', '.join(sorted(missing))} are missing or damaged; "
            "resume the study to compute them again"
        )
    setting, calibrated = _setting(row, weight)
    epoch = int(row["epoch"])
    weights = _weights(run, chosen, epoch, replicate, artifacts) if chosen.is_trained else None
    parts = [chosen.label]
    if replicate:
        parts.append(f"replicate {replicate}")
    parts.append(f"epoch {epoch}")
    parts.append("calibrated" if setting.is_calibrated else f"w = {setting.guidance_weight:g}")
    parts.append(f"{setting.num_steps} steps")
    return RunRecipe(chosen, artifacts, weights, replicate, setting, calibrated, ", ".join(parts))


def _trials(run: RunFolder) -> Iterator[Trial]:
    """Yield the trials of the run's plan and of its searches."""
    try:
        if run.files.read_record(LOCK_FILE) is None:
            raise RecordError(f"{LOCK_FILE}: {MISSING}")
    except RecordError as error:
        raise NoSuchModelError(f"{run.where}: {error}; resume the study to restore it") from error
    study = load_study(run.path / "study.lock.yaml")
    yield from make_plan(study).trials
    for cell in cells_of(study):
        for event in read_events(run, cell.id):
            if isinstance(event, Asked) and event.trial is not None:
                point: Point = {
                    tuple(name.split(".")): value for name, value in event.values.items()
                }
                yield point_trial(study, cell, point)


def row_of_replicate(run: RunFolder, model: pd.Series, replicate: int) -> pd.Series:
    """Return the row of one replicate of a model, given as means over replicates.

    Raises:
        NoSuchModelError: the replicate has no complete row.
    """
    rows = _like(_of_replicate(run, replicate), model)
    if rows.empty:
        name = name_of(model["label"])
        raise NoSuchModelError(f"replicate {replicate} of {name} has no complete row")
    return rows.iloc[0]


def _of_replicate(run: RunFolder, replicate: int) -> pd.DataFrame:
    rows = run.rows()
    rows = rows[rows["status"] == "ok"]
    if rows.empty:
        raise NoSuchModelError(
            f"{run.where}: no row is complete yet; wait for the first checkpoint, or run the study"
        )
    if (rows := rows[rows["replicate"] == replicate]).empty:
        raise NoSuchModelError(
            f"--replicate {replicate}: the run has no complete row of this replicate"
        )
    return rows


def _row(
    run: RunFolder, trial: str, replicate: int, epoch: int | None, *, is_calibrated: bool
) -> pd.Series:
    """Return the row of one replicate of the trial that is best on the validation split."""
    rows = _of_replicate(run, replicate)
    if trial == "best":
        best = _best(run)
        candidates = _like(rows, best) if epoch is None else rows[rows["trial"] == best["trial"]]
    else:
        every = run.rows()
        labels = dict(zip(every["trial"], every["label"], strict=True))
        found = find_trial(labels, trial)
        candidates = rows[rows["trial"] == found]
        if candidates.empty:
            reasons = every[every["trial"] == found]["reason"].dropna()
            ending = f"failed: {reasons.iloc[0]}" if len(reasons) else "is not complete"
            raise NoSuchModelError(f"{run.where}: {name_of(labels[found])} {ending}")
    epochs = sorted(set(candidates["epoch"]))
    if epoch is not None and epoch not in epochs:
        raise NoSuchModelError(
            f"--epoch must be a checkpoint of {candidates['trial'].iloc[0]} "
            f"({', '.join(map(str, epochs))}), but got {epoch}"
        )
    candidates = candidates[candidates["epoch"] == (epochs[-1] if epoch is None else epoch)]
    if is_calibrated:
        candidates = _calibrated(rows, candidates.iloc[0])
    return candidates.loc[_change(candidates).idxmin()]


def _calibrated(rows: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """Return the rows of the same checkpoint at the calibrated weight."""
    same = rows[(rows["trial"] == row["trial"]) & (rows["epoch"] == row["epoch"])]
    same = same[same["is_calibrated"].astype(bool)]
    if same.empty:
        raise NoSuchModelError(
            f"the study evaluated no calibrated weight of {row['trial']} at epoch "
            f"{row['epoch']}; give a number as the guidance weight"
        )
    return same


def _at_calibrated_weight(rows: pd.DataFrame, row: pd.Series, weight: str) -> pd.Series:
    """Return the row with the calibrated weight and otherwise the same setting."""
    if weight != CALIBRATED:
        raise NoSuchModelError(f"weight must be a number or {CALIBRATED!r}, but got {weight!r}")
    return _like(_calibrated(rows, row), row, besides=("guidance_weight", "is_calibrated")).iloc[0]


def _best(run: RunFolder) -> pd.Series:
    """Return the best checkpoint and setting, chosen by searches if there are any."""
    table = table_of(run)
    searches = read_searches(run, table)
    chosen = [best for search in searches if (best := search.best()) is not None]
    cells = trained(table.aggregated)
    if chosen:
        cells = pd.concat([_like(cells, best) for best in chosen])
    if cells.empty:
        raise NoSuchModelError(f"{run.where}: no trial with a discriminator is complete")
    return cells.loc[_change(cells).idxmin()]


def _change(rows: pd.DataFrame) -> pd.Series:
    return rows["validation_change"].astype(float).fillna(float("inf"))


def _like(rows: pd.DataFrame, row: pd.Series, besides: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows of the same trial, checkpoint and setting, some columns apart."""
    for name in ("trial", "epoch", *SETTING_COLUMNS):
        if name in besides:
            continue
        same = rows[name].isna() if pd.isna(row[name]) else rows[name] == row[name]
        rows = rows[same]
    return rows


def _setting(row: pd.Series, weight: float | None) -> tuple[Setting, SplineWeight | None]:
    """Return the setting of a row, perhaps at another weight, and its calibrated weight."""
    setting = Setting.from_columns(row)
    if weight is not None:
        if not 0 <= weight < math.inf:
            raise NoSuchModelError(f"weight must be a number >= 0, but got {weight}")
        return replace(setting, guidance_weight=weight), None
    if not setting.is_calibrated:
        return setting, None
    knots = torch.tensor(list(row["calibrated_sigmas"]), dtype=torch.float64).log()
    return setting, SplineWeight(
        knots, torch.tensor(list(row["calibrated_weights"]), dtype=torch.float64)
    )


def _weights(
    run: RunFolder, trial: Trial, epoch: int, replicate: int, artifacts: Mapping[str, bytes]
) -> list[Tensor]:
    """Return the parameters of one discriminator at one checkpoint, on the CPU."""
    try:
        saved = run.read_state(trial.id, epoch)
    except RecordError:
        saved = None
    if saved is None:
        raise NoSuchModelError(
            f"{run.where}: the checkpoint of {trial.id} at epoch {epoch} is missing or damaged; "
            "resume the study to complete it"
        )
    config = trial.config
    problem = build_problem(config, shared_of(config, artifacts), torch.device("cpu"))
    state = build_training(config, problem, range(trial.replicates), saved)
    return [tensor[replicate] for tensor in state.evaluated().tensors]

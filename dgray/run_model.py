"""The guided model of a run's trial, or a bare base, ready to be sampled.

Knows the run folder's files and how the trial was built; not where samples go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dgray.artifacts import artifact_keys
from dgray.build import build_control, build_discriminator, build_problem
from dgray.config.load import load_study
from dgray.config.training import TRAINED_OBJECTIVES
from dgray.data.images import Shape
from dgray.diffusion.noise import philox_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import SplineWeight
from dgray.evaluate_samples import draw
from dgray.fit_state import TrainingState
from dgray.networks.image_denoiser import NetworkDenoiser
from dgray.networks.published import locate
from dgray.networks.stored import load_checkpoint
from dgray.plan import Setting, Trial, make_plan
from dgray.problem import Problem
from dgray.run_folder import RunFolder

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # Karras et al. 2022, Table 1


class NoSuchModelError(ValueError):
    """The run has no such trial, weight or checkpoint."""


@dataclass(frozen=True)
class RunModel:
    """A discriminator on its base at one setting.

    Attributes:
        problem: data and base.
        discriminator: of the first replicate.
        setting: weight, sampler and number of steps.
        calibrated: the calibrated weight, if the setting asks for it.
        name: what it is, in words.
    """

    problem: Problem
    discriminator: Discriminator
    setting: Setting
    calibrated: SplineWeight | None
    name: str

    @property
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None for points."""
        return self.problem.shape

    @torch.no_grad()
    def draw(self, seeds: range) -> Tensor:
        """Samples of these seeds, float64 (n, d); each depends on its own seed alone."""
        calibrated = {} if self.calibrated is None else {self.setting.interval: self.calibrated}
        drawn = draw(self.problem, self.discriminator, calibrated, [self.setting], seeds)
        return drawn[self.setting].samples


@dataclass(frozen=True)
class BareBase:
    """A stored network without a study, by Heun's method with EDM's noise levels.

    Attributes:
        base: the denoiser; a class-conditional one is asked for no class.
        seed: of all noise.
        num_steps: of Heun's method.
        name: what it is, in words.
    """

    base: NetworkDenoiser
    seed: int
    num_steps: int
    name: str

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.base.shape

    @torch.no_grad()
    def draw(self, seeds: range) -> Tensor:
        """See ``RunModel``."""
        sigmas = karras_sigmas(self.num_steps, SIGMA_MIN, SIGMA_MAX, RHO)
        noise = philox_noise(self.seed, seeds, (self.base.dimension,), "start")
        device = next(self.base.module.parameters()).device
        return heun(self.base, SIGMA_MAX * noise.to(device), sigmas)


def load_base_model(source: str, device: torch.device, *, num_steps: int, seed: int) -> BareBase:
    """A stored network: a file, an https address or a short name.

    Raises:
        ValueError: it is refused.
        OSError: it cannot be read.
    """
    path = locate(source, cache=None, sha256=None, tell=print)
    return BareBase(load_checkpoint(path, device), seed, num_steps, f"{path.name}, unguided")


def load_run_model(
    folder: Path, *, trial: str, weight: float | None, device: torch.device
) -> RunModel:
    """The guided model of a run.

    Args:
        folder: of the run.
        trial: id of a trial (or the start of it), or ``best``: of all objectives the row that is
            best on the validation split.
        weight: guidance weight; None: that of the chosen row.
        device: where it runs.

    Raises:
        NoSuchModelError: there is none.
        OSError: the folder is no run.
    """
    run = RunFolder(folder)
    trials = {t.id: t for t in make_plan(load_study(folder / "study.lock.yaml")).trials}
    row = _row(run.rows(), trial)
    if row["trial"] not in trials:
        raise NoSuchModelError(
            f"{folder}: the trial {row['trial']} is not one of its study.lock.yaml as this "
            "version of dgray reads it; sample with the version that ran the study"
        )
    of = trials[row["trial"]]
    artifacts = {key: run.read_artifact(key) for key in artifact_keys(of)}
    found = {key: content for key, content in artifacts.items() if content is not None}
    problem = build_problem(of.config, found, device)
    setting, calibrated = _setting(of, row, weight)
    words = "calibrated" if setting.is_calibrated else f"w = {setting.guidance_weight:g}"
    discriminator = _discriminator(run, of, int(row["epoch"]), problem)
    name = f"{of.label}, epoch {row['epoch']}, {words}, {setting.num_steps} steps"
    return RunModel(problem, discriminator, setting, calibrated, name)


def _row(rows: pd.DataFrame, trial: str) -> pd.Series:
    """The row that is best on validation, of the first replicate of the trials that match."""
    rows = rows[(rows["status"] == "ok") & (rows["replicate"] == 0)]
    is_best = trial == "best"
    matches = rows["objective"].isin(TRAINED_OBJECTIVES)
    chosen = rows[matches if is_best else rows["trial"].str.startswith(trial)]
    if chosen.empty or (chosen["trial"].nunique() > 1 and not is_best):
        known = ", ".join(sorted(set(rows["trial"])))
        raise NoSuchModelError(
            f"--trial must be best or the id of one trial, but got {trial!r}; there are {known}"
        )
    last = chosen if is_best else chosen[chosen["epoch"] == chosen["epoch"].max()]
    order = last["validation_change"].astype(float).fillna(float("inf"))
    return last.loc[order.idxmin()]


def _setting(
    trial: Trial, row: pd.Series, weight: float | None
) -> tuple[Setting, SplineWeight | None]:
    """The row's setting, or the same at another weight; and its calibrated weight."""
    (setting,) = [
        s
        for s in trial.settings
        if s.sampler == row["sampler"]
        and s.num_steps == row["num_steps"]
        and s.is_calibrated == row["is_calibrated"]
        and s.guided_stage == row["guided_stage"]
        and (s.is_calibrated or s.guidance_weight == row["guidance_weight"])
        and (s.interval or (None, None))[0] == (row["interval_low"] if s.interval else None)
    ]
    if weight is not None:
        return replace(setting, guidance_weight=weight), None
    if not setting.is_calibrated:
        return setting, None
    knots = torch.tensor(list(row["calibrated_sigmas"]), dtype=torch.float64).log()
    return setting, SplineWeight(
        knots, torch.tensor(list(row["calibrated_weights"]), dtype=torch.float64)
    )


def _discriminator(run: RunFolder, trial: Trial, epoch: int, problem: Problem) -> Discriminator:
    if not trial.is_trained:
        return build_control(trial.objective, problem)
    saved = run.load_state(trial.id, [e for e in trial.epochs if e <= epoch])
    if saved is None or saved[0] != epoch:
        raise NoSuchModelError(
            f"{run.path}: the checkpoint of {trial.id} at epoch {epoch} is not there; run the "
            "study again to complete it"
        )
    replicates = range(trial.replicates)
    fit = trial.config.fit
    state = TrainingState.start(
        build_discriminator(problem, replicates),
        replicates=replicates,
        weight_decay=fit.weight_decay,
        ema_decay=fit.ema_decay,
        patience=fit.patience,
    )
    state.load_bytes(saved[1])
    return state.evaluated().member(0)

"""Every correction in a trial: resumed rows, weight 0, the KL of selected laws, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from typing_extensions import override

from dgray.catalogue import CORRECTIONS
from dgray.config.reading.load import load_study
from dgray.correction.correction import SamplerCorrection
from dgray.correction.metropolis import Metropolis
from dgray.correction.rejection import Rejection
from dgray.diffusion.denoiser import Denoiser, NoiseLevels, levels_of
from dgray.discriminator.discriminator import Oracle
from dgray.errors import StudyError
from dgray.plan.plan import Setting, Trial, make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem, build_training
from dgray.problem.correction import as_correction
from dgray.problem.flops import counted
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import build_artifacts
from dgray.trial import sampling, score_path, score_selection
from dgray.trial.sample_cost import sample_costs, selection_costs
from dgray.trial.sampling import DrawRequest, SamplerSettings, draw, draw_unguided
from tests.trial.test_run import Memory, metrics, plan_of, results

STUDY = """
name: tiny
replicates: 2
diffusion: {sigma_min: 0.02, sigma_max: 10}
data: {kind: mixture, name: ring8, num_real: 30, num_validation: 40, num_held_out: 40}
base: {kind: trained, width: 6, depth: 1, steps: 20, num_real: 60, num_generated: 40}
correction: {moves: 2, max_ratio: 2}
discriminator: {width: 6, depth: 1}
fit: {epochs: 4, checkpoints: [2, 4], batch_size: 15}
evaluate:
  guidance_weight: [0.5, calibrated]
  sampler: [sde]
  num_steps: 4
  metrics: [path_kl]
  num_points: 10
  num_samples: 20
"""
EXACT = """
name: exact
replicates: 1
diffusion: {sigma_min: 0.02, sigma_max: 10, prior_std: 10.05}
data:
  kind: mixture
  components: {means: [[0.0]], stds: [1.0]}
  num_held_out: 2000
base:
  kind: wrong_mixture
  components: {means: [[0.5]], stds: [1.2]}
correction: {kind: [rejection, metropolis], max_ratio: 2, moves: 20}
fit: {objective: oracle}
evaluate:
  guidance_weight: [1]
  sampler: [ode]
  num_steps: 20
  metrics: [kl, path_kl]
  num_points: 200
  num_samples: 100
"""
NAMES = [spec.name for spec in CORRECTIONS]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    folder = tmp_path_factory.mktemp("study")
    plan = plan_of(folder, f"correction.kind=[{', '.join(NAMES)}]", text=STUDY)
    return {trial.correction: trial for trial in plan}


@pytest.fixture(scope="module")
def stored(trials: dict[str, Trial]) -> Memory:
    """Artifacts that all trials share."""
    memory = Memory()
    build_artifacts(list(trials.values()), memory)
    return memory


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_trial_has_the_same_rows(name: str, trials: dict[str, Trial]) -> None:
    trial = trials[name]
    first, second = results(trial)
    state = first.state
    assert state is not None
    (rest,) = results(replace(trial, epochs=(4,)), resume=lambda epoch: (2, state))
    assert [metrics(r) for r in rest.rows] == [metrics(r) for r in second.rows]
    assert all(math.isfinite(row["path_kl"]) for row in rest.rows)


@pytest.mark.parametrize("name", NAMES)
def test_samples_at_weight_0_are_those_of_the_base(
    name: str, trials: dict[str, Trial], stored: Memory
) -> None:
    trial = trials[name]
    artifacts = build_artifacts([trial], stored)
    problem = build_problem(trial.config, shared_of(trial.config, artifacts), torch.device("cpu"))
    ensemble = build_training(trial.config, problem, range(2)).ensemble
    noisy = [t.detach() + 0.3 * torch.ones_like(t) for t in ensemble.tensors]  # as if trained
    correction = as_correction(trial.config, ensemble.with_tensors(noisy).member(1))
    off, on = (replace(trial.settings[0], guidance_weight=w) for w in (0.0, 1.0))

    def samples(setting: Setting) -> torch.Tensor:
        request = DrawRequest(
            correction=correction, calibrated={}, settings=[setting], seeds=range(30)
        )
        return draw(problem, request)[setting].samples

    expected = draw_unguided(problem, SamplerSettings.of(off), range(30))
    assert torch.equal(samples(off), expected)
    assert not torch.equal(samples(on), expected)


@dataclass(frozen=True)
class CountedDenoiser(Denoiser):
    """Denoiser that records how many rows it is called with."""

    inner: Denoiser
    rows: list[int] = field(default_factory=list)

    @property
    def levels(self) -> NoiseLevels:
        return levels_of(self.inner)

    @override
    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.rows.append(sigma.numel())
        return self.inner(x, sigma)


@pytest.mark.parametrize("name", ["guidance", "rejection", "metropolis"])
def test_the_cost_of_a_sample_is_that_of_drawing_it(
    name: str, trials: dict[str, Trial], stored: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MAX_KEPT", 0)  # proposals are drawn as they are needed
    trial = trials[name]
    artifacts = build_artifacts([trial], stored)
    problem = build_problem(trial.config, shared_of(trial.config, artifacts), torch.device("cpu"))
    ensemble = build_training(trial.config, problem, range(2)).ensemble
    correction = as_correction(trial.config, ensemble.member(0))
    (setting,) = (s for s in trial.settings if s.guidance_weight == 0.5)
    if isinstance(correction, SamplerCorrection):
        costs = selection_costs(problem, correction, [setting], {})[setting]
    else:
        costs = sample_costs(problem, correction, [setting])[setting]
    base = CountedDenoiser(problem.base)
    request = DrawRequest(
        correction=correction, calibrated={}, settings=[setting], seeds=range(400)
    )
    flops = counted(lambda: draw(replace(problem, base=base), request)) / 400
    assert costs["sample_calls"] == pytest.approx(sum(base.rows) / 400, rel=0.15)
    assert costs["sample_flops"] == pytest.approx(flops, rel=0.15)


@pytest.mark.long
@pytest.mark.parametrize("name", ["neon", "rejection", "metropolis"])
def test_the_calibrated_weight_of_a_nonlinear_correction_is_the_best_of_its_grid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each weight of the grid is evaluated by itself, as a constant weight of the study."""
    grid = (-1.0, -0.5, 0.5, 1.0)  # a study allows none below 0
    sizes = "data.num_validation=400", "data.num_held_out=400", "replicates=1"
    trained = "fit.epochs=60", "fit.checkpoints=null", "fit.learning_rate=0.01"
    of = f"correction.kind={name}", "evaluate.num_samples=2", "data.num_real=400"
    sizes = *sizes, "evaluate.metrics=[path_kl, observable_path_kl]"
    trial = plan_of(tmp_path, *of, *sizes, *trained, text=STUDY)[-1]
    (last,) = (setting for setting in trial.settings if setting.is_calibrated)
    settings = (*(replace(last, guidance_weight=weight) for weight in grid), last)
    monkeypatch.setattr(score_selection, "EXPONENTS", grid)
    monkeypatch.setattr(score_path, "GRID", grid)
    (result,) = results(replace(trial, settings=settings))
    rows = {row["guidance_weight"]: row for row in map(metrics, result.rows)}
    calibrated = rows.pop(None)
    best = min(rows, key=lambda weight: rows[weight]["validation_change"])
    chosen = set(calibrated["calibrated_weights"])
    assert chosen == {best}
    same = rows[best]
    for column in ("path_kl_change", "observable_path_kl", "observable_path_kl_change"):
        assert calibrated[column] == pytest.approx(same[column], rel=1e-9)
        assert calibrated[f"{column}_se"] >= same[f"{column}_se"]
    assert calibrated["validation_change"] >= same["validation_change"]  # cross-validated


def test_selection_by_the_exact_log_ratio_has_no_kl_left(tmp_path: Path) -> None:
    """Both the exact law and the samples drawn from it reach the law of the data."""
    for trial in plan_of(tmp_path, text=EXACT):
        if trial.correction == "base":
            continue
        (result,) = results(trial)
        (row,) = result.rows
        assert row["kl_change"] == pytest.approx(-0.1163, abs=4 * row["kl_change_se"])
        for name in ("kl", "path_kl"):
            assert row[name] == pytest.approx(0.0, abs=4 * row[f"{name}_se"] + 2e-3)
            assert row[f"{name}_se"] < 0.025
        problem = build_problem(trial.config, Shared({}), torch.device("cpu"))
        log_ratio = problem.log_ratio()
        assert isinstance(log_ratio, Oracle)
        assert isinstance(as_correction(trial.config, log_ratio), Rejection | Metropolis)
        request = DrawRequest(
            correction=as_correction(trial.config, log_ratio),
            calibrated={},
            settings=trial.settings,
            seeds=range(1000),
        )
        samples = draw(problem, request)[trial.settings[0]].samples
        assert float(samples.mean()) == pytest.approx(0.0, abs=4 / math.sqrt(1000))
        assert float(samples.std()) == pytest.approx(1.0, abs=4 / math.sqrt(2000))


def test_a_selected_sample_depends_on_its_own_seed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan_of(tmp_path, text=EXACT)[-1]
    problem = build_problem(trial.config, Shared({}), torch.device("cpu"))
    correction = as_correction(trial.config, problem.log_ratio())

    def samples(seeds: list[int]) -> torch.Tensor:
        request = DrawRequest(
            correction=correction, calibrated={}, settings=trial.settings, seeds=seeds
        )
        return draw(problem, request)[trial.settings[0]].samples

    whole = samples(list(range(20)))
    torch.testing.assert_close(samples([3, 17]), whole[[3, 17]])
    monkeypatch.setattr(sampling, "MAX_KEPT", 0)
    torch.testing.assert_close(samples(list(range(20))), whole)


@pytest.mark.parametrize("name", ["fine_tune", "neon", "ddo"])
def test_corrections_of_a_network_are_refused_on_an_exact_base(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(EXACT.replace("[rejection, metropolis]", name))
    with pytest.raises(StudyError, match=f"'{name}' trains copies of the base's network"):
        make_plan(load_study(path, ["fit.objective=cross_entropy"]))

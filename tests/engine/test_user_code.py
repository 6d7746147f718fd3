"""User-defined code that raises, exits or returns nonsense: a failed row with its reason."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgray.config.reading.load import load_study
from dgray.diffusion.mixture import GaussianMixture
from dgray.engine.attempt import attempt
from dgray.engine.events import TrialFailed
from dgray.metrics.estimate import Estimate
from dgray.plan.plan import Trial, make_plan
from dgray.problem.build import build_metric_functions
from dgray.problem.failure import describe
from dgray.problem.shared import build_artifacts
from dgray.record.row import CheckpointResult
from tests.engine.test_sampling_actors import STUDY as IMAGES
from tests.trial.test_run import Memory

POINTS = """\
name: points
replicates: 1
data: {kind: points, factory: "user_parts:data", num_real: 30, num_validation: 30,
       num_held_out: 30}
base: {kind: custom, factory: "user_parts:base", num_generated: 30, generation_steps: 3}
discriminator: {kind: custom, factory: "user_parts:network"}
fit: {objective: {factory: "user_parts:objective"}, epochs: 1, batch_size: 30}
evaluate: {guidance_weight: 1, metrics: [{factory: "user_parts:metric"}], num_samples: 10,
           sampler: [{factory: "user_parts:sampler"}], num_steps: 3, num_bins: 2,
           sigmas_per_bin: 1}
"""


class Base:
    def __init__(self, result: Any = None) -> None:
        self.result = result

    def __call__(self, x: Tensor, sigma: Tensor) -> Any:
        denoised = x / (1 + sigma**2)[..., None]
        return denoised if self.result is None else self.result(denoised)

    def with_divergence(self, x: Tensor, sigma: Tensor, probes: Any = None) -> Any:
        return self(x, sigma), x.shape[-1] / (1 + sigma**2)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.layer(torch.cat([x, sigma[:, None]], 1))[:, 0]


def data() -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    return GaussianMixture(means, 0 * means + 0.3, torch.full((2,), 0.5, dtype=torch.float64))


def loss(outputs: Any) -> Tensor:
    return torch.relu(1 - outputs.real_logit) + torch.relu(1 + outputs.generated_logit)


def sampled(denoise: Any, x: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    return denoise(x, torch.full_like(x[..., 0], float(sigmas[-1])))


WORKING: dict[str, Any] = {
    "data": data,
    "base": lambda shape, device: Base(),
    "network": lambda shape, sigma_data, num_classes: Network(),
    "objective": lambda: loss,
    "metric": lambda generated, real: Estimate.of(generated[:, 0]),
    "sampler": sampled,
}


def fail(*arguments: object, **named: object) -> Any:
    raise ZeroDivisionError("no\nreason")


def leave(*arguments: object, **named: object) -> Any:
    sys.exit(0)


def with_result(result: Any) -> Any:
    return lambda shape, device: Base(result)


class Law:
    """The law of ``data`` with other attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(data(), name)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return data()(x, sigma)


def with_law(**attributes: Any) -> Any:
    return lambda: Law(**attributes)


def with_samples(change: Any) -> Any:
    return lambda *arguments: change(sampled(*arguments))


class Failures(list[str]):
    """Store of a trial that keeps the reasons of failures."""

    def load_state(self, trial_id: str, epochs: Sequence[int]) -> None:
        return None

    def missing_epochs(self, trial: Trial) -> list[int]:
        return list(trial.epochs)

    def write_result(self, result: CheckpointResult) -> None:
        pass

    def write_failure(self, trial: Trial, reason: str) -> None:
        self.append(reason)

    def read_artifact(self, key: str) -> None:
        return None

    def write_artifact(self, key: str, content: bytes) -> None:
        pass

    def delete_artifact(self, key: str) -> None:
        pass


def failures(folder: Path, study: str, store: Memory, *overrides: str) -> Failures:
    """Run a study without a run folder and return why its trials failed."""
    path = folder / "study.yaml"
    path.write_text(study)
    trials = make_plan(load_study(path, overrides)).trials
    artifacts = build_artifacts(trials, store)
    reasons = Failures()
    for trial in trials:
        events = list(attempt(trial, artifacts, reasons, None))
        assert isinstance(events[-1], TrialFailed) == bool(reasons)
    return reasons


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("user_parts")
    vars(module).update(WORKING)
    monkeypatch.setitem(sys.modules, "user_parts", module)
    return module


def test_working_parts_do_not_fail(parts: ModuleType, tmp_path: Path) -> None:
    assert failures(tmp_path, POINTS, Memory()) == []


@pytest.mark.parametrize("part", WORKING)
def test_a_part_that_raises_or_exits_is_a_failed_row(
    part: str, parts: ModuleType, tmp_path: Path
) -> None:
    for function, message in ((fail, "ZeroDivisionError: no reason"), (leave, "sys.exit(0)")):
        setattr(parts, part, function)
        (reason, *others) = failures(tmp_path, POINTS, Memory())
        assert message in reason
        assert reason.isprintable()
        assert set(others) <= {reason}


@pytest.mark.parametrize(
    ("part", "function", "message"),
    [
        ("data", lambda: None, "its factory returned NoneType, which lacks dimension, std, to"),
        ("data", lambda: (x for x in ()), "its factory returned generator, which lacks"),
        ("data", with_law(sample=lambda n, g: torch.zeros(n, 3)), "shape (2, 2), but got (2, 3)"),
        ("data", with_law(sample=lambda n, g: torch.zeros(n, 2).long()), "finite floating-point"),
        ("data", with_law(log_prob=lambda x, s: x[:, 0] * torch.nan), "data.log_prob(x, sigma)"),
        ("data", with_law(std=0.0), "a std > 0, but got 2, 0.0"),
        ("base", lambda shape, device: 3, "a base must be a denoiser, but its factory returned 3"),
        ("base", with_result(lambda d: d[..., :1]), "shape (2, 2), but got (2, 1)"),
        ("base", with_result(lambda d: d.long()), "finite floating-point numbers"),
        ("base", with_result(lambda d: d * torch.nan), "finite floating-point numbers"),
        ("network", lambda *a: 3, "must return a torch.nn.Module"),
        ("objective", lambda: None, "a function of outputs, but its factory returned None"),
        ("objective", lambda: lambda outputs: None, "shape (1, 2), but returned NoneType"),
        ("objective", lambda: lambda outputs: loss(outputs).mean(), "torch.float32 of shape ()"),
        ("network", lambda *a: nn.Linear(3, 1), "its call failed"),
        ("objective", lambda: lambda outputs: loss(outputs) * torch.nan, "must be finite"),
        ("objective", lambda: lambda outputs: loss(outputs).detach(), "does not require grad"),
        ("metric", lambda generated, real: 1.0, "must return a dgray.metrics.estimate.Estimate"),
        ("metric", lambda generated, real: Estimate(float("nan"), 0.1), "must be a number"),
        ("metric", lambda generated, real: Estimate("x", 0.1), "must be a number"),
        ("sampler", with_samples(lambda x: x[:1]), "shape (10, 2), but returned (1, 2)"),
        ("sampler", with_samples(lambda x: x[:, :1]), "shape (10, 2), but returned (10, 1)"),
        ("sampler", with_samples(lambda x: x.long()), "must return floating-point numbers"),
        ("sampler", with_samples(lambda x: None), "but returned NoneType"),
        ("sampler", with_samples(lambda x: x * torch.nan), "must be a number"),
    ],
)
def test_a_part_that_returns_nonsense_is_a_failed_row(
    part: str, function: Any, message: str, parts: ModuleType, tmp_path: Path
) -> None:
    setattr(parts, part, function)
    assert message in failures(tmp_path, POINTS, Memory())[0]


def test_a_metric_cannot_change_the_samples_of_others(parts: ModuleType, tmp_path: Path) -> None:
    parts.metric = lambda generated, real: Estimate.of(
        generated.zero_()[:, 0] + real.zero_()[0, 0]
    )
    assert failures(tmp_path, POINTS, Memory()) == []
    x, y = torch.ones(3, 2), torch.ones(3, 2)
    config = load_study(tmp_path / "study.yaml").configs[0].config
    (metric,) = build_metric_functions(config)
    metric(x, y)
    assert bool((x == 1).all() and (y == 1).all())


def test_an_extractor_that_fails_is_a_failed_row(parts: ModuleType, tmp_path: Path) -> None:
    store = Memory()
    for function, message in (
        (fail, "ZeroDivisionError: no reason"),
        (leave, "it called sys.exit(0)"),
        (lambda pixels: pixels.flatten(1), "must return a torch tensor of floats"),
        (lambda pixels: pixels.float().flatten(), "features of shape (N, F)"),
        (lambda pixels: pixels.float().flatten(1) * torch.nan, "finite features"),
        (lambda pixels: None, "must return a torch tensor of floats"),
    ):
        parts.features = function  # type: ignore[attr-defined]
        overrides = ("evaluate.features=user_parts:features", "replicates=1")
        reasons = failures(tmp_path, IMAGES, store, *overrides)
        assert reasons
        assert all(r.startswith("features cannot be made: ") and message in r for r in reasons)


def test_a_lack_of_memory_is_named() -> None:
    for error in (MemoryError(), OSError(12, "Cannot allocate memory")):
        assert "it ran out of memory: lower" in describe(error)
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**46)
    assert "it ran out of memory: lower" in describe(raised.value)
    assert "memory" not in describe(ValueError())

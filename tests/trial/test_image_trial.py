"""Trials of images: content of their rows, what it depends on, and refused studies."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.stored import StoredNetwork, write_network
from dgray.catalogue import METRICS, MetricSpec
from dgray.config.parts import MetricPart
from dgray.config.reading.load import load_study
from dgray.config.study import StudyConfig
from dgray.correction.guidance import Guidance
from dgray.data.images import to_uint8, to_unit
from dgray.discriminator.discriminator import Discriminator, ZeroDiscriminator
from dgray.errors import ArtifactError, StudyError
from dgray.metrics.estimate import Estimate
from dgray.metrics.features.inception_file import TORCHSCRIPT, VARIABLE
from dgray.plan.plan import Setting, Trial, make_plan
from dgray.problem.build import build_problem, build_task, build_training
from dgray.problem.images import ImageProblem
from dgray.problem.make_shared import shared_of
from dgray.problem.problem import Problem
from dgray.problem.shared import build_artifacts
from dgray.record.row import CheckpointResult, Row, column_names
from dgray.record.run_folder import RunFolder
from dgray.trial.noised_splits import build_evaluation_set
from dgray.trial.run import run_trial
from dgray.trial.sampling import DrawRequest
from dgray.trial.score_images import ImageScoring, build_image_scoring
from dgray.trial.shards import DrawnImages
from tests.metrics.features import conftest as of_features

weights_folder = of_features.weights_folder  # stand-ins for Inception's files
STUDY = """\
name: tiny
replicates: 2
diffusion: {sigma_min: 0.05, sigma_max: 40}
data: {kind: digits, num_real: 60, num_validation: 30, num_held_out: 40}
base: {kind: trained, width: 16, depth: 1, num_real: 80, steps: 30, batch_size: 40,
       num_generated: 50, generation_steps: 4}
discriminator: {width: 8, depth: 1}
fit: {objective: [cross_entropy, kl], epochs: 2, checkpoints: [1, 2], batch_size: 30}
evaluate:
  guidance_weight: [1, calibrated]
  num_steps: 4
  num_bins: 2
  sigmas_per_bin: 2
  metrics: [nll, fd, kid, precision, recall, density, coverage, memorisation]
  num_points: 6
  num_samples: 40
  shard_size: 16
  tolerance: 3
"""
Whole = tuple[tuple[Trial, ...], dict[str, bytes]]  # trials and artifacts of the study
CONV = ("discriminator.kind=conv", "discriminator.width=4", "discriminator.depth=1")
UNET = ("base.network=unet", "base.width=4", "base.steps=4", "evaluate.metrics=[fd]")


def trials_of(folder: Path, *overrides: str) -> tuple[Trial, ...]:
    path = folder / "tiny.yaml"
    path.write_text(STUDY.replace("  width: 8, depth: 1", "") if CONV[0] in overrides else STUDY)
    return make_plan(load_study(path, overrides)).trials


def problem_of(trial: Trial, artifacts: dict[str, bytes]) -> Problem:
    return build_problem(trial.config, shared_of(trial.config, artifacts), torch.device("cpu"))


def drawn(
    config: StudyConfig,
    artifacts: dict[str, bytes],
    discriminator: Discriminator,
    settings: Sequence[Setting],
) -> tuple[ImageScoring, DrawnImages]:
    """Images of the only setting."""
    shared = shared_of(config, artifacts)
    problem = build_problem(config, shared, torch.device("cpu"))
    assert isinstance(problem, ImageProblem)
    scoring = build_image_scoring(config, problem, shared)
    request = DrawRequest(
        correction=Guidance(discriminator),
        calibrated={},
        settings=settings,
        seeds=problem.evaluation.seeds,
    )
    (images,) = scoring.draw(request).values()
    return scoring, images


def artifacts_of(folder: Path, trials: tuple[Trial, ...]) -> dict[str, bytes]:
    (folder / "run").mkdir(exist_ok=True)
    return build_artifacts(trials, RunFolder(folder / "run"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of artifacts that several tests need, such as the network for the features."""
    return tmp_path_factory.mktemp("shared")


def run(trials: tuple[Trial, ...], artifacts: dict[str, bytes]) -> list[Row]:
    return [row for t in trials for result in run_trial(t, artifacts) for row in result.rows]


@pytest.fixture(scope="module")
def whole(shared: Path) -> Whole:
    trials = trials_of(shared)
    return trials, artifacts_of(shared, trials)


@pytest.fixture(scope="module")
def rows(whole: Whole) -> list[Row]:
    return run(*whole)


def test_rows_hold_scores_and_their_provenance(rows: list[Row]) -> None:
    assert len(rows) == 1 + 2 * 2 * 2 * 2
    for row in rows:
        assert row["path_kl"] is None
        assert row["kl"] is None
        assert row.num_scored == row.num_reference == 40
        assert row.features == "fd_cnn"
        assert len(row.features_sha256 or "") == 64
        assert row.reference == "held_out"
        for name in ("fd", "kid", "precision", "recall", "density", "coverage", "fd_floor", "nll"):
            assert math.isfinite(row[name]), name
        assert (row["memorisation"] is None) == (row.objective == "base")


def test_changes_are_differences_of_likelihoods_and_bits_refer_to_bytes(rows: list[Row]) -> None:
    (base,) = [row for row in rows if row.objective == "base"]
    assert base["kl_change"] == base["path_kl_change"] == 0.0
    for row in rows:
        assert row["nll"] is not None
        assert row["nll"] - base["nll"] == pytest.approx(row["kl_change"], abs=1e-9)
        assert row["bits_per_dim"] == pytest.approx(
            row["nll"] / 64 / math.log(2) + math.log2(127.5)
        )


def test_path_kl_change_is_the_paired_change_of_the_denoising_error(
    whole: Whole, rows: list[Row]
) -> None:
    """The denoising error of the guided model minus that of the base, from its definition."""
    trials, artifacts = whole
    (trial,) = [t for t in trials if t.objective == "kl"]
    problem = problem_of(trial, artifacts)
    (*_, last) = run_trial(trial, artifacts)
    state = build_training(trial.config, problem, range(2), last.state)
    member = state.evaluated().member(1)
    real = build_evaluation_set(problem).held_out.real
    base = problem.base(real.x, real.sigma)
    guided = base + real.sigma[..., None] ** 2 * member.gradient(real.x, real.sigma)
    clean = real.x - real.sigma[..., None] * real.noise
    error = [((d - clean) ** 2).sum(-1) / real.sigma**2 for d in (guided, base)]
    expected = float((error[0] - error[1]).mean()) * math.log(40 / 0.05)
    (row,) = [r for r in last.rows if r.replicate == 1 and r.guidance_weight == 1 and r.epoch == 2]
    assert row["path_kl_change"] == pytest.approx(expected, rel=1e-6)


def test_a_resumed_trial_has_the_same_rows(whole: Whole, rows: list[Row]) -> None:
    trials, artifacts = whole
    (trial,) = [t for t in trials if t.objective == "cross_entropy"]
    first, second = run_trial(trial, artifacts)
    due = replace(trial, epochs=trial.epochs[1:])
    for epoch, state in ((1, first.state), (2, second.state)):  # trained on; only evaluated
        assert state is not None
        (resumed,) = run_trial(due, artifacts, resume=lambda _, start=epoch, s=state: (start, s))
        assert resumed.state == second.state
        assert metrics(resumed) == [
            metric_values(r) for r in rows if r.trial == trial.id and r.epoch == 2
        ]


def metrics(result: CheckpointResult) -> list[dict[str, object]]:
    return [metric_values(row) for row in result.rows]


def metric_values(row: Row) -> dict[str, object]:
    return {name: row[name] for name in column_names("identity", "metric")}


def test_an_image_depends_on_its_seed_alone(whole: Whole) -> None:
    trials, artifacts = whole
    config = trials[0].config
    shown = []
    for size in (7, 40):
        evaluate = config.evaluate.model_copy(update={"shard_size": size})
        other = config.model_copy(update={"evaluate": evaluate})
        images = drawn(other, artifacts, ZeroDiscriminator(), trials[0].settings)[1]
        shown.append(images.shown)
    torch.testing.assert_close(*shown)


def mean_distance(generated: torch.Tensor, real: torch.Tensor) -> Estimate:
    """Metric of a user: mean distance to the mean of the data."""
    return Estimate.of((generated - real.mean(0)).norm(dim=1))


def test_a_users_metric_compares_images_features_and_the_validation_split(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = f"{__name__}:mean_distance"
    of_features = MetricSpec(
        name="spread",
        title="spread",
        doc="spread",
        source="features",
        kinds=("images",),
        factory=factory,
        validation="validation_spread",
    )
    monkeypatch.setitem(METRICS._specs, "spread", of_features)
    trials, artifacts = whole
    parts = (MetricPart(factory=factory), MetricPart(name="spread"))
    evaluate = trials[0].config.evaluate.model_copy(update={"metrics": parts})
    config = trials[0].config.model_copy(update={"evaluate": evaluate})
    scoring, images = drawn(config, artifacts, ZeroDiscriminator(), trials[0].settings)
    problem, reference = scoring.problem, scoring.reference
    assert images.features is not None
    assert reference is not None
    assert reference.features is not None
    evaluation = replace(problem.evaluation, validated=("spread",))
    scoring = replace(scoring, problem=replace(problem, evaluation=evaluation))
    columns = scoring.columns(images, trials[0].settings[0])
    held_out = problem.real("held_out").float()
    expected = {
        "mean_distance": mean_distance(to_unit(images.pixels), held_out),
        "spread": mean_distance(images.features, reference.features),
        "validation_spread": mean_distance(images.features, reference.validation),
    }
    for name, estimate in expected.items():
        assert columns[name] == pytest.approx(estimate.value)
        assert columns[f"{name}_se"] == pytest.approx(estimate.se)


def test_samples_that_are_not_finite_are_not_scored(whole: Whole) -> None:
    class Wild(ZeroDiscriminator):
        def gradient(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, torch.inf)

    trials, artifacts = whole
    guided = next(t for t in trials if t.is_trained)
    constant = [s for s in guided.settings if not s.is_calibrated]
    scoring, images = drawn(guided.config, artifacts, Wild(), constant)
    assert scoring.columns(images, constant[0]) == {"num_scored": 0}


def test_images_are_bytes_and_splits_are_disjoint(whole: Whole) -> None:
    trials, artifacts = whole
    problem = problem_of(trials[0], artifacts)
    for samples in (problem.real("held_out"), problem.generated("held_out")):
        assert torch.equal(to_uint8(samples).double() / 127.5 - 1, samples)
    sets = [
        {tuple(image) for image in problem.real(split).tolist()}
        for split in ("held_out", "validation", "training-0")
    ]
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]


@pytest.mark.parametrize("trunk", ["none", "base"])
def test_convolutional_discriminator_on_images_and_on_features_of_the_base(
    shared: Path, trunk: str
) -> None:
    trials = trials_of(shared, *CONV, *UNET, f"discriminator.trunk={trunk}")
    trial_rows = run(trials, artifacts_of(shared, trials))
    guided = [row for row in trial_rows if row.objective == "kl" and row.epoch == 2]
    assert all(math.isfinite(row["path_kl_change"]) for row in guided)
    # The calibrated weight is 0 if guidance is not significantly better.
    assert all(row["path_kl_change"] != 0 for row in guided if not row.is_calibrated)


def test_class_conditional_base_and_discriminator(shared: Path) -> None:
    conditional = ("base.conditional=true", "discriminator.conditional=true")
    trials = trials_of(shared, *CONV, *conditional, "evaluate.metrics=[fd]")
    artifacts = artifacts_of(shared, trials)
    trained = next(t for t in trials if t.objective == "cross_entropy")
    problem = problem_of(trained, artifacts)
    task = build_task(trained.config, problem, range(2))
    assert task.real_labels is not None
    assert task.generated_labels is not None
    assert task.real_labels.shape == (2, 60)
    assert set(task.generated_labels.flatten().tolist()) <= set(range(10))
    torch.testing.assert_close(task.real_labels[1], problem.real_labelled("training-1")[1])
    assert all(math.isfinite(row["fd"]) for row in run(trials, artifacts))


def test_a_stored_network_is_a_base_if_its_shape_is_that_of_the_data(
    shared: Path, tmp_path: Path
) -> None:
    kwargs = {
        "img_resolution": 8,
        "img_channels": 1,
        "label_dim": 0,
        "model_type": "SongUNet",
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
    }
    architecture = EdmArchitecture("EDMPrecond", kwargs)
    torch.manual_seed(0)
    module = architecture.build()
    write_network(tmp_path / "net.safetensors", StoredNetwork(architecture, module.state_dict()))
    path = tmp_path / "edm.yaml"
    text = STUDY.replace(
        STUDY[STUDY.index("base:") : STUDY.index("discriminator:")],
        f"base: {{kind: edm, network: {tmp_path}/net.safetensors, num_generated: 20, "
        "generation_steps: 3}\n",
    )
    path.write_text(text)
    overrides = ("evaluate.metrics=[fd]", "fit.objective=kl", "replicates=1")
    trials = make_plan(load_study(path, overrides)).trials
    artifacts = artifacts_of(shared, trials)
    assert all(math.isfinite(row["fd"]) for row in run(trials, artifacts))
    problem = problem_of(trials[0], artifacts)
    x = torch.randn(3, 64)
    sigma = torch.tensor([0.1, 1.0, 10.0])
    expected = module.eval()(x.view(3, 1, 8, 8), sigma).flatten(1)
    torch.testing.assert_close(problem.base(x, sigma), expected.detach())
    wrong = make_plan(load_study(path, (*overrides, "data.kind=glyphs", "data.size=16"))).trials
    with pytest.raises(
        ArtifactError, match=r"samples of one shape, but the base generates \(1, 8, 8\)"
    ):
        artifacts_of(tmp_path, wrong)


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("evaluate.metrics=[kl]", "'kl' needs points, but the data are images"),
        ("evaluate.metrics=[fid]", "'fid' is defined for Inception only"),
        ("fit.objective=oracle", "have no known density"),
        ("base.kind=wrong_mixture", "needs points, but the data are images"),
    ],
)
def test_parts_of_points_are_refused_for_images(tmp_path: Path, override: str, rule: str) -> None:
    with pytest.raises(StudyError) as refused:
        trials_of(tmp_path, override)
    assert any(rule in problem.rule for problem in refused.value.diagnostics)


def test_features_do_not_depend_on_the_number_of_training_images(shared: Path) -> None:
    trials = trials_of(shared, "data.num_real=[20, 60]", "evaluate.metrics=[fd]")
    artifacts = artifacts_of(shared, trials)
    assert len([key for key in artifacts if key.startswith("cnn-")]) == 1
    assert len([key for key in artifacts if key.startswith("features-")]) == 1
    assert len([t for t in trials if t.objective == "base"]) == 1
    (held_out,) = {
        problem.real("held_out").numpy().tobytes()
        for t in trials
        for problem in [problem_of(t, artifacts)]
    }
    assert held_out


@pytest.mark.long
def test_workers_need_no_files_that_the_driver_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights_folder: Path
) -> None:
    """Workers need neither Inception's weights nor the variable nor the user's statistics."""
    own = shutil.copytree(weights_folder, tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "weights")
    np.savez("reference.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    inception = ("evaluate.features=inception_legacy_tensorflow", "evaluate.metrics=[fid]")
    base = trials_of(tmp_path, *inception, "evaluate.reference=reference.npz")[:1]
    artifacts = artifacts_of(tmp_path, base)
    monkeypatch.delenv(VARIABLE)
    sha256 = hashlib.sha256((own / TORCHSCRIPT.name).read_bytes()).hexdigest()
    shutil.rmtree(own)
    Path("reference.npz").unlink()
    (row,) = run(base, artifacts)
    assert row["fid"] is not None
    assert math.isfinite(row["fid"])
    assert row.features_sha256 == sha256
    assert (row.reference, row.num_reference) == ("reference.npz", None)
    with pytest.raises(ArtifactError, match="inception cannot be made: FID needs the Inception"):
        artifacts_of(tmp_path, trials_of(tmp_path, *inception, "evaluate.inception_weights=gone"))


def test_statistics_of_other_features_are_refused(tmp_path: Path) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, mu=np.zeros(3), sigma=np.eye(3))
    chosen = ("evaluate.metrics=[fd]", f"evaluate.reference={reference}")
    with pytest.raises(ArtifactError, match=r"64 numbers an image, but those of .* are of 3"):
        artifacts_of(tmp_path, trials_of(tmp_path, *chosen))

"""Shards are reduced to mean and scatter if only Frechet distances are computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dgray.config.parts import MetricPart
from dgray.config.reading.load import load_study
from dgray.config.reading.relevance import relevant_config
from dgray.config.study import StudyConfig
from dgray.correction.guidance import Guidance
from dgray.discriminator.discriminator import ZeroDiscriminator
from dgray.metrics.frechet import frechet_distance
from dgray.plan.plan import Setting, Trial, make_plan
from dgray.problem.build import build_evaluation_settings
from dgray.problem.shared import build_artifacts
from dgray.record.run_folder import RunFolder
from dgray.trial.sampling import DrawRequest
from dgray.trial.score_images import ImageScoring
from dgray.trial.shards import DrawnImages, keeps_all_features
from tests.trial.test_image_trial import drawn as draw_images

STUDY = """\
name: tiny
diffusion: {sigma_min: 0.05, sigma_max: 40}
data: {kind: digits, num_real: 60, num_validation: 40, num_held_out: 40}
base: {kind: trained, width: 16, depth: 1, num_real: 80, steps: 30, batch_size: 40,
       num_generated: 50, generation_steps: 4}
discriminator: {width: 8, depth: 1}
fit: {epochs: 1, batch_size: 30}
evaluate: {guidance_weight: 1, num_steps: 4, num_bins: 2, sigmas_per_bin: 1, metrics: [fd],
           num_samples: 46, shard_size: 4}
"""
SETTING = Setting(
    guidance_weight=0.0, sampler="ode", num_steps=4, interval=None, guided_stage="both"
)
Found = tuple[DrawnImages, ImageScoring]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(STUDY)
    trials = make_plan(load_study(folder / "tiny.yaml")).trials
    (folder / "run").mkdir()
    return trials[0], build_artifacts(trials, RunFolder(folder / "run"))


def changed(config: StudyConfig, **changes: Any) -> StudyConfig:
    """The configuration with some fields of ``evaluate`` changed."""
    if "metrics" in changes:
        changes["metrics"] = tuple(MetricPart(name=name) for name in changes["metrics"])
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})


def drawn(study: tuple[Trial, dict[str, bytes]], **changes: Any) -> Found:
    """The base's images, with some fields of ``evaluate`` changed."""
    trial, artifacts = study
    config = changed(trial.config, **changes)
    scoring, images = draw_images(config, artifacts, ZeroDiscriminator(), trial.settings)
    return images, scoring


def features_of(images: DrawnImages) -> NDArray[np.float64]:
    assert images.features is not None
    return images.features.numpy().astype(np.float64)


def distance(features: NDArray[np.float64], scoring: ImageScoring) -> float:
    """From numpy's own mean and covariance."""
    assert scoring.reference is not None
    data = scoring.reference.moments
    return frechet_distance(
        features.mean(0), np.cov(features, rowvar=False), data.mean, data.covariance
    )


def test_statistics_give_the_distance_and_error_of_single_features(
    study: tuple[Trial, dict[str, bytes]],
) -> None:
    images, scoring = drawn(study)
    assert images.features is None
    (total,) = images.statistics
    assert total.whole.count == 46
    alone, _ = drawn(study, metrics=("fd", "precision"))
    assert alone.statistics == ()
    features = features_of(alone)
    columns = scoring.columns(images, SETTING)
    assert columns["num_scored"] == 46
    assert columns["fd"] == pytest.approx(distance(features, scoring), rel=1e-9)
    # Twelve shards in ten groups; the last shard has two images.
    shard = np.arange(46) // 4
    left_out = [distance(features[shard % 10 != group], scoring) for group in range(10)]
    assert columns["fd_se"] == pytest.approx(np.sqrt(9 * np.var(left_out)), rel=1e-6)


def test_the_error_of_several_sets_is_their_spread(
    study: tuple[Trial, dict[str, bytes]],
) -> None:
    images, scoring = drawn(study, sampling_seeds=3, shard_size=20)
    assert images.features is None
    assert [shard.whole.count for shard in images.statistics] == [46, 46, 46]
    alone, _ = drawn(study, sampling_seeds=3, shard_size=20, metrics=("fd", "precision"))
    features = features_of(alone)
    values = [distance(features[first : first + 46], scoring) for first in (0, 46, 92)]
    columns = scoring.columns(images, SETTING)
    assert columns["num_scored"] == 138
    assert columns["fd"] == pytest.approx(np.mean(values), rel=1e-9)
    assert columns["fd_se"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=1e-6)


@pytest.mark.parametrize("sets", [1, 2])
def test_distance_to_validation_is_that_of_single_features(
    sets: int, study: tuple[Trial, dict[str, bytes]]
) -> None:
    images, scoring = drawn(study, sampling_seeds=sets)
    alone, of_features = drawn(study, sampling_seeds=sets, metrics=("fd", "kid"))
    assert scoring.reference is not None
    estimate = scoring.distance_to_validation(images, scoring.reference)
    of_single = of_features.distance_to_validation(alone, scoring.reference)
    assert estimate.value == pytest.approx(of_single.value, rel=1e-9)
    assert estimate.se > 0
    assert estimate.value != scoring.columns(images, SETTING)["fd"]


def test_images_in_few_shards_keep_their_features_for_the_error(
    study: tuple[Trial, dict[str, bytes]],
) -> None:
    images, scoring = drawn(study, shard_size=6)  # eight shards
    assert len(features_of(images)) == 46
    features = features_of(images)
    columns = scoring.columns(images, SETTING)
    left_out = [distance(features[np.arange(46) % 10 != group], scoring) for group in range(10)]
    assert columns["fd_se"] == pytest.approx(np.sqrt(9 * np.var(left_out)), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"metrics": ("fd", "memorisation", "nll")}, False),
        ({"metrics": ("fd", "kid")}, True),
        ({"metrics": ("fd", "coverage")}, True),
        ({"shard_size": 5}, False),
        ({"shard_size": 6}, True),
        ({"shard_size": 6, "num_single_features": 45}, False),
        ({"metrics": ("fd", "kid"), "num_single_features": 46}, True),
        ({"metrics": ("fd", "kid"), "num_single_features": 45}, False),
        ({"shard_size": 46, "sampling_seeds": 2}, False),
    ],
)
def test_single_features_are_kept_only_if_a_metric_needs_them(
    changes: dict[str, Any], needed: bool, study: tuple[Trial, dict[str, bytes]]
) -> None:
    settings = build_evaluation_settings(changed(study[0].config, **changes))
    assert keeps_all_features(settings) == needed


@pytest.mark.parametrize(("sets", "shard_size"), [(1, 4), (1, 20), (3, 20)])
def test_of_many_images_only_the_first_features_are_kept(
    sets: int, shard_size: int, study: tuple[Trial, dict[str, bytes]]
) -> None:
    """The distance is of all images, other metrics of the first ones of each set."""
    fields = {"sampling_seeds": sets, "shard_size": shard_size, "metrics": ("fd", "kid", "recall")}
    whole, of_whole = drawn(study, **fields)
    images, scoring = drawn(study, **fields, num_single_features=30)
    all_features = features_of(whole).reshape(sets, 46, -1)
    kept = features_of(images)
    assert np.array_equal(kept, all_features[:, :30].reshape(30 * sets, -1))
    assert [total.whole.count for total in images.statistics] == [46] * sets
    columns, expected = scoring.columns(images, SETTING), of_whole.columns(whole, SETTING)
    assert columns["num_single_features"] == 30 * sets
    assert expected["num_single_features"] == columns["num_scored"] == 46 * sets
    assert columns["fd"] == pytest.approx(expected["fd"], rel=1e-9)
    assert columns["fd_se"] > 0
    assert columns["kid"] != expected["kid"]
    first, of_first = drawn(study, **fields, num_samples=30)
    values = of_first.columns(first, SETTING)
    if sets == 1:  # images of later sets have other seeds
        assert columns["kid"] == pytest.approx(values["kid"], rel=1e-6)
        assert columns["recall"] == values["recall"]
    assert scoring.reference is not None
    estimate = scoring.distance_to_validation(images, scoring.reference)
    of_all = of_whole.distance_to_validation(whole, scoring.reference)
    assert estimate.value == pytest.approx(of_all.value, rel=1e-9)


def test_the_number_of_single_features_is_no_part_of_the_id_at_its_default(
    study: tuple[Trial, dict[str, bytes]],
) -> None:
    config = study[0].config
    values = relevant_config(config, "base")["evaluate"]
    assert "num_single_features" not in values
    other = relevant_config(changed(config, num_single_features=9), "base")["evaluate"]
    assert other == values | {"num_single_features": 9}


def test_missing_images_and_shards_are_refused(
    study: tuple[Trial, dict[str, bytes]],
) -> None:
    _, scoring = drawn(study)
    request = DrawRequest(
        correction=Guidance(ZeroDiscriminator()),
        calibrated={},
        settings=study[0].settings,
        seeds=range(46),
    )

    def all_but_one(*request: Any) -> Any:
        return list(scoring.run_shards(*request))[:-1]

    def one_short(*request: Any) -> Any:
        for shard in scoring.run_shards(*request):
            yield [replace(part, count=part.count - 1) for part in shard]

    for run_shards in (all_but_one, one_short):
        with pytest.raises(RuntimeError, match="every shard must have an image of each"):
            replace(scoring, run_shards=run_shards).draw(request)

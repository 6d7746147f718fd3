"""Sampling actors: the same images as without, also when an actor dies in the middle."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import dgray.engine.sampling_actors as sampling_actors
from dgray.config.parts import MetricPart
from dgray.config.reading.load import load_study
from dgray.correction.guidance import Guidance
from dgray.discriminator.discriminator import Discriminator, ZeroDiscriminator
from dgray.engine import local, tune
from dgray.engine.sampling_actors import SamplingActors
from dgray.plan.plan import Plan, Setting, make_plan
from dgray.problem.build import build_problem
from dgray.problem.discriminator import build_discriminator
from dgray.problem.images import ImageProblem
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import build_artifacts
from dgray.record.open_run import open_run
from dgray.record.row import column_names
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from dgray.trial.sampling import DrawRequest
from dgray.trial.score_images import ImageScoring, build_image_scoring
from dgray.trial.shards import DrawnImages, ImageShard

STUDY = """\
name: tiny
replicates: 2
diffusion: {sigma_min: 0.05, sigma_max: 40}
data: {kind: digits, num_real: 40, num_validation: 20, num_held_out: 20}
base: {kind: trained, width: 16, depth: 1, num_real: 80, steps: 30, batch_size: 40,
       num_generated: 40, generation_steps: 4}
discriminator: {width: 8, depth: 1}
fit: {objective: kl, epochs: 1, batch_size: 20, learning_rate: 1e-2}
evaluate: {guidance_weight: [1, 2], num_steps: 4, num_bins: 2, sigmas_per_bin: 1,
           metrics: [fd, memorisation], num_samples: 30, shard_size: 3}
"""


def plan_of(folder: Path, *overrides: str) -> Plan:
    (folder / "tiny.yaml").write_text(STUDY)
    return make_plan(load_study(folder / "tiny.yaml", overrides))


def drawn(scoring: ImageScoring, member: Discriminator, setting: Setting) -> DrawnImages:
    seeds = scoring.problem.evaluation.seeds
    request = DrawRequest(
        correction=Guidance(member), calibrated={}, settings=[setting], seeds=seeds, replicate=0
    )
    (images,) = scoring.draw(request).values()
    return images


def content(images: DrawnImages) -> tuple[bytes, ...]:
    """Every bit that came back."""
    tensors = (images.shown, images.features, images.memorisation)
    return (
        *(tensor.numpy().tobytes() for tensor in tensors if tensor is not None),
        *(part.whole.mean.tobytes() for part in images.statistics),
        *(part.whole.scatter.tobytes() for part in images.statistics),
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_running")
def test_any_number_of_actors_and_a_dying_one_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "resources.sampling_actors=2")
    (tmp_path / "run").mkdir()
    artifacts = build_artifacts(plan.trials, RunFolder(tmp_path / "run"))
    trial = next(t for t in plan.trials if t.is_trained)
    problem = build_problem(trial.config, shared_of(trial.config, artifacts), torch.device("cpu"))
    ensemble = build_discriminator(trial.config, problem, [0])
    generator = torch.Generator().manual_seed(0)
    moved = [t + 0.1 * torch.randn(t.shape, generator=generator) for t in ensemble.tensors]
    member = ensemble.with_tensors(moved).member(0)
    torch.set_num_threads(1)

    death = tmp_path / "has_died"
    draw = sampling_actors._Sampler.draw

    class Mortal(sampling_actors._Sampler):
        def draw(self, request: Any, seeds: range) -> list[ImageShard]:
            if seeds.start == 15 and not death.exists():
                death.touch()
                os._exit(1)
            return draw(self, request, seeds)

    immortal = sampling_actors._Sampler
    statistics, features = ("fd", "memorisation"), ("fd", "kid", "memorisation")
    for metrics in (statistics, features):
        parts = tuple(MetricPart(name=name) for name in metrics)
        evaluate = trial.config.evaluate.model_copy(update={"metrics": parts})
        config = trial.config.model_copy(update={"evaluate": evaluate})
        shared = shared_of(config, artifacts)
        here_problem = build_problem(config, shared, torch.device("cpu"))
        assert isinstance(here_problem, ImageProblem)
        scoring = build_image_scoring(config, here_problem, shared)
        local = drawn(scoring, member, trial.settings[0])
        assert local.memorisation is not None
        assert len(local.memorisation) == 30
        if metrics == statistics:
            assert local.statistics[0].whole.count == 30
        else:
            assert local.features is not None
            assert len(local.features) == 30
        base = drawn(scoring, ZeroDiscriminator(), trial.settings[0])
        assert not torch.equal(local.shown, base.shown)
        counts = {statistics: [(1, immortal), (3, Mortal)], features: [(2, immortal)]}
        for number, kind in counts[metrics]:
            monkeypatch.setattr(sampling_actors, "_Sampler", kind)
            # Three must find a place on two cores, which no study file may request.
            update = {"sampling_actors": number, "cpus_per_actor": 0.2}
            resources = config.resources.model_copy(update=update)
            with_actors = config.model_copy(update={"resources": resources})
            with SamplingActors(with_actors, artifacts) as actors:
                scoring = build_image_scoring(config, here_problem, shared, actors.run_shards)
                there = drawn(scoring, member, trial.settings[0])
                assert actors.times_lost() == (kind is Mortal)
            assert content(there) == content(local)
    assert death.exists()


@pytest.mark.long
@pytest.mark.ray
def test_a_study_with_actors_has_the_rows_of_one_without(tmp_path: Path) -> None:
    tables = []
    for name, engine, actors in (("a", local, 0), ("b", tune, 1)):
        plan = plan_of(
            tmp_path, f"resources.sampling_actors={actors}", "resources.max_concurrent_trials=1"
        )
        run = open_run(plan, tmp_path / name, fresh=False)
        engine.run(
            GridSchedule(plan.trials, run.folder),
            run.folder,
            partial(build_artifacts, plan.trials, run.folder),
            lambda event: None,
        )
        rows = run.folder.rows().sort_values(["trial", "replicate", "guidance_weight"])
        tables.append(rows[list(column_names("metric"))].map(str).reset_index(drop=True))
        run.close()
        assert set(rows["status"]) == {"ok"}, set(rows["reason"])
    assert tables[0].equals(tables[1])

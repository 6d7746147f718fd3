"""Sampling actors: the same images as without, also when an actor dies in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import dgray.engine.sampling_actors as sampling_actors
from dgray.artifacts import build_artifacts
from dgray.build import build_discriminator, build_problem
from dgray.config.load import load_study
from dgray.discriminator.discriminator import Discriminator, Silent
from dgray.engine import local, tune
from dgray.engine.sampling_actors import SamplingActors
from dgray.evaluate_images import DrawnImages, ImageScoring, ImageShard
from dgray.open_run import open_run
from dgray.plan import Plan, Setting, make_plan
from dgray.row import column_names
from dgray.run_folder import RunFolder
from dgray.search.schedule import GridSchedule

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
           metrics: [fd, memorisation], num_samples: 30, shard_size: 8}
"""


def plan_of(folder: Path, *overrides: str) -> Plan:
    (folder / "tiny.yaml").write_text(STUDY)
    return make_plan(load_study(folder / "tiny.yaml", overrides))


def drawn(scoring: ImageScoring, member: Discriminator, setting: Setting) -> DrawnImages:
    (images,) = scoring.draw(member, {}, [setting], 0).values()
    return images


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_any_number_of_actors_and_a_dying_one_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "resources.sampling_actors=2")
    (tmp_path / "run").mkdir()
    artifacts = build_artifacts(plan.trials, RunFolder(tmp_path / "run"))
    trial = next(t for t in plan.trials if t.is_trained)
    problem = build_problem(trial.config, artifacts, torch.device("cpu"))
    ensemble = build_discriminator(problem, [0])
    generator = torch.Generator().manual_seed(0)
    moved = [t + 0.1 * torch.randn(t.shape, generator=generator) for t in ensemble.tensors]
    member = ensemble.with_tensors(moved).member(0)
    torch.set_num_threads(1)
    here = drawn(ImageScoring.build(problem, artifacts), member, trial.settings[0])
    assert here.memorisation is not None
    assert here.features is not None
    assert len(here.memorisation) == len(here.features) == 30
    unguided = drawn(ImageScoring.build(problem, artifacts), Silent(), trial.settings[0])
    assert not torch.equal(here.shown, unguided.shown)

    death = tmp_path / "has_died"
    draw = sampling_actors._Sampler.draw

    class Mortal(sampling_actors._Sampler):
        def draw(self, request: Any, seeds: range) -> list[ImageShard]:
            if seeds.start == 16 and not death.exists():
                death.touch()
                os._exit(1)
            return draw(self, request, seeds)

    for number, kind in (
        (1, sampling_actors._Sampler),
        (2, sampling_actors._Sampler),
        (2, Mortal),
    ):
        monkeypatch.setattr(sampling_actors, "_Sampler", kind)
        resources = trial.config.resources.model_copy(
            update={"sampling_actors": number, "cpus_per_actor": 1}
        )
        config = trial.config.model_copy(update={"resources": resources})
        with SamplingActors(config, artifacts) as actors:
            there = drawn(
                ImageScoring.build(problem, artifacts, actors.run_shards),
                member,
                trial.settings[0],
            )
            assert actors.times_lost() == (kind is Mortal)
        assert there.memorisation is not None
        assert there.features is not None
        assert torch.equal(there.shown, here.shown)
        assert here.memorisation is not None
        assert torch.equal(there.memorisation, here.memorisation)
        assert torch.equal(there.features, here.features)
    assert death.exists()


def test_shards_with_other_counts_are_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (tmp_path / "run").mkdir()
    artifacts = build_artifacts(plan.trials, RunFolder(tmp_path / "run"))
    trial = plan.trials[0]
    problem = build_problem(trial.config, artifacts, torch.device("cpu"))
    whole = ImageScoring.build(problem, artifacts)

    def short(*request: object) -> Iterator[object]:
        for shard in whole.run_shards(*request):  # type: ignore[arg-type]
            yield [replace(part, count=part.count - 1) for part in shard]

    scoring = replace(whole, run_shards=short)
    with pytest.raises(RuntimeError, match="every shard must have an image of each"):
        scoring.draw(Silent(), {}, trial.settings)


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_with_actors_has_the_rows_of_one_without(tmp_path: Path) -> None:
    tables = []
    for name, engine, actors in (("a", local, 0), ("b", tune, 1)):
        plan = plan_of(
            tmp_path, f"resources.sampling_actors={actors}", "resources.max_concurrent_trials=1"
        )
        run = open_run(plan, tmp_path / name, fresh=False)
        engine.run(
            GridSchedule(plan.trials, run),
            run,
            partial(build_artifacts, plan.trials, run),
            lambda event: None,
        )
        rows = run.rows().sort_values(["trial", "replicate", "guidance_weight"])
        tables.append(rows[list(column_names("metric"))].map(str).reset_index(drop=True))
        run.close()
        assert set(rows["status"]) == {"ok"}, set(rows["reason"])
    assert tables[0].equals(tables[1])

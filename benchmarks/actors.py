"""Measure guided sampling of images by sampling actors: none against one, and one against two.

    python -m benchmarks actors

The images, 16 x 16 pixels, are those of one setting of a trial with a U-Net as base and a
convolutional discriminator. Each actor computes on one thread. Ray, the actors and the base are
made before anything is measured. All ways must give the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.turns import cost_of, machine, measure_in_turns
from dgray.config.reading.load import load_values
from dgray.config.study import StudyConfig
from dgray.correction.guidance import Guidance
from dgray.engine.ray_session import ray_session
from dgray.engine.sampling_actors import SamplingActors
from dgray.plan.plan import Trial, make_plan
from dgray.problem.build import build_problem
from dgray.problem.compute_process import prepare_process
from dgray.problem.discriminator import build_discriminator
from dgray.problem.images import ImageProblem
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import build_artifacts
from dgray.record.run_folder import RunFolder
from dgray.trial.sampling import DrawRequest
from dgray.trial.score_images import build_image_scoring

STUDY = {
    "name": "actors",
    "diffusion": {"sigma_min": 0.02, "sigma_max": 80},
    "data": {"kind": "glyphs", "size": 16, "num_real": 64, "num_held_out": 64},
    "base": {
        "kind": "trained",
        "network": "unet",
        "width": 16,
        "depth": 1,
        "num_real": 64,
        "steps": 2,
        "num_generated": 64,
        "generation_steps": 2,
    },
    "discriminator": {"kind": "conv", "width": 8, "depth": 1},
    "fit": {"epochs": 1, "batch_size": 32},
    "evaluate": {"metrics": ["fd"], "features": "cnn", "num_steps": 9, "shard_size": 8},
}


def trial_of(num_samples: int) -> Trial:
    """Return the trained trial of the study."""
    plan = make_plan(load_values(STUDY, [f"evaluate.num_samples={num_samples}"]))
    return next(trial for trial in plan.trials if trial.is_trained)


def with_actors(config: StudyConfig, count: int) -> StudyConfig:
    """Return the configuration with a number of actors, which no core limits."""
    update = {"sampling_actors": count, "cpus_per_actor": 0}
    return config.model_copy(update={"resources": config.resources.model_copy(update=update)})


def measure(num_samples: int, repeats: int) -> None:
    """Print the wall clock of no actor against one, and of one against two."""
    trial = trial_of(num_samples)
    config = trial.config
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifacts = build_artifacts([trial], RunFolder(folder))
        shared = shared_of(config, artifacts)
        problem = build_problem(config, shared, torch.device("cpu"))
        assert isinstance(problem, ImageProblem)
        ensemble = build_discriminator(config, problem, [0])
        generator = torch.Generator().manual_seed(0)
        weights = [t + 0.1 * torch.randn(t.shape, generator=generator) for t in ensemble.tensors]
        request = DrawRequest(
            correction=Guidance(ensemble.with_tensors(weights).member(0)),
            calibrated={},
            settings=[trial.settings[0]],
            seeds=problem.evaluation.seeds,
            replicate=0,
        )
        stack.enter_context(ray_session())

        def draws(count: int) -> Callable[[], list[bytes]]:
            """Return a function that draws the images by this number of actors."""
            run_shards = None
            if count:
                actors = SamplingActors(with_actors(config, count), artifacts)
                run_shards = stack.enter_context(actors).run_shards
            scoring = build_image_scoring(config, problem, shared, run_shards)

            def draw() -> list[bytes]:
                (images,) = scoring.draw(request).values()
                statistics = [part.whole for part in images.statistics]
                return [images.shown.numpy().tobytes()] + [
                    part.tobytes() for whole in statistics for part in (whole.mean, whole.scatter)
                ]

            return draw

        ways = {count: draws(count) for count in (0, 1, 2)}
        contents = [way() for way in ways.values()]
        assert contents[0] == contents[1] == contents[2], "the images differ"
        print("| actors | s | other | s | ratio of wall clock |\n|---|---:|---|---:|---:|")
        for first, second in ((0, 1), (1, 2)):
            calls = [partial(cost_of, ways[count]) for count in (second, first)]
            pair = measure_in_turns(calls, repeats)
            seconds = [sorted(cost.wall for cost in costs)[repeats // 2] for costs in pair]
            print(
                f"| {first} | {seconds[1]:.1f} | {second} | {seconds[0]:.1f} "
                f"| {pair.ratios(2, 'wall')} |",
                flush=True,
            )


def main() -> None:
    """Measure the wall clock of sampling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=256, help="number of images")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs per case")
    options = parser.parse_args()
    prepare_process(1)
    print(f"{machine()}, torch {torch.__version__}; {options.repeats} pairs, one thread each\n")
    measure(options.samples, options.repeats)


if __name__ == "__main__":
    main()

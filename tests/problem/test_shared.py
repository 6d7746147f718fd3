"""Shared artifacts: stored parts and states are resumed to the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from dgray.config.reading.load import load_study
from dgray.data.summary import DataSummary
from dgray.errors import ArtifactError
from dgray.plan.plan import Trial, make_plan
from dgray.problem.artifact_table import Job, Step
from dgray.problem.artifacts import ImageSamples, StoredImages, pack_images, unpack_images
from dgray.problem.generated import generated_parts
from dgray.problem.make_shared import shared_of
from dgray.problem.shared import LocalWorkers, build_artifacts
from tests.engine.test_sampling_actors import STUDY
from tests.trial.test_run import Memory


def trials_of(folder: Path, *overrides: str) -> tuple[Trial, ...]:
    (folder / "tiny.yaml").write_text(STUDY)
    shards = "evaluate.shard_size=8"
    return make_plan(load_study(folder / "tiny.yaml", (shards, *overrides))).trials


class Cut(LocalWorkers):
    """Workers that stop, like a crash, after some results or states of a role."""

    def __init__(self, role: str, after: int) -> None:
        self.role, self.after = role, after
        self.seen: list[tuple[str, Step | bytes]] = []

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, bytes],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        for job, step in super().make(jobs, made, state):
            self.seen.append((job.role, step))
            yield job, step
            self.after -= job.role == self.role and (
                isinstance(step, bytes) or step.state is not None
            )
            if not self.after:
                raise KeyboardInterrupt


def test_stored_parts_are_not_computed_again(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "evaluate.shard_size=3")
    whole = build_artifacts(trials, Memory())
    store, cut = Memory(), Cut("generated", 3)
    with pytest.raises(KeyboardInterrupt):
        build_artifacts(trials, store, cut)
    parts = [key for key in store if key.startswith("generated-")]
    assert len(parts) == 3
    rest = Cut("generated", -1)
    assert build_artifacts(trials, store, rest) == whole
    drawn = [step for role, step in rest.seen if role == "generated" and isinstance(step, bytes)]
    assert len(drawn) == 2 + 2 + 4 + 4 - 3  # parts of 12 of 20, 20, 40 and 40 images
    assert not [key for key in store if "." in key]  # nothing is left of parts and states


def test_a_split_without_generated_samples_is_one_empty_part(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "base.num_generated=0")
    empty = [part for part in generated_parts(trials[0].config) if part.start == part.stop]
    assert [part.split for part in empty] == ["training-0", "training-1"]
    artifacts = build_artifacts(trials, Memory())
    (content,) = (value for key, value in artifacts.items() if key.startswith("generated"))
    images = unpack_images(content).images
    assert len(images.rows["training-0"]) == 0
    assert len(images.pixels) == len(images.rows["held_out"]) + len(images.rows["validation"])


def test_a_generated_image_depends_on_its_seed_alone(tmp_path: Path) -> None:
    image_sets = []
    for size in (2, 30):
        trials = trials_of(tmp_path, f"evaluate.shard_size={size}", "evaluate.batch_size=7")
        artifacts = build_artifacts(trials, Memory())
        key = next(key for key in artifacts if key.startswith("generated"))
        image_sets.append(unpack_images(artifacts[key]).images)
    first, second = image_sets
    assert first.rows.keys() == second.rows.keys()
    for split in first.rows:
        a, b = (of.stored(split, 40).int() for of in image_sets)
        assert (a - b).abs().max() <= 1  # batches of other sizes may round to the next byte
        assert (a != b).float().mean() < 1e-3
    assert not torch.equal(first.stored("training-0", 20), first.stored("training-1", 20))


def test_the_training_of_a_base_resumes_from_its_last_state(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "base.steps=600")
    whole = build_artifacts(trials, Memory())
    store = Memory()
    with pytest.raises(KeyboardInterrupt):
        build_artifacts(trials, store, Cut("base", 1))
    assert [key for key in store if key.endswith(".state")]
    rest = Cut("base", -1)
    assert build_artifacts(trials, store, rest) == whole
    steps = [s.done for role, s in rest.seen if role == "base" and isinstance(s, Step)]
    assert steps[0] == 300  # the state was of step 250
    assert not [key for key in store if key.endswith(".state")]


def test_stored_images_keep_the_order_of_their_classes() -> None:
    summary = DataSummary("letters", 1, (1, 2, 2), {"2": 30, "10": 20, "1": 10})
    samples = ImageSamples(torch.zeros(1, 4, dtype=torch.uint8), {})
    packed = pack_images(StoredImages(samples, (1, 2, 2), 3, summary.to_json()))
    assert DataSummary.from_json(unpack_images(packed).source).lines() == summary.lines()


def test_progress_is_reported(tmp_path: Path) -> None:
    progress: list[tuple[str, Step]] = []
    build_artifacts(
        trials_of(tmp_path), Memory(), report=lambda role, step: progress.append((role, step))
    )
    roles = list(dict.fromkeys(role for role, _ in progress))
    assert roles == ["images", "base", "generated", "cnn", "features"]
    assert all(step.state is None for _, step in progress)
    last = dict(progress)
    assert {(step.done, step.total) for step in last.values()} <= {(1, 1), (6, 6)}
    assert any(step.text.startswith("steps, loss ") for _, step in progress)


def test_an_artifact_that_user_code_fails_to_make_is_its_reason(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "evaluate.features=no_such_module:features")
    artifacts = build_artifacts(trials, Memory())
    (reason,) = [made for made in artifacts.values() if isinstance(made, str)]
    assert reason.startswith("features cannot be made: ModuleNotFoundError: ")
    with pytest.raises(ArtifactError, match=r"^features cannot be made: .*no_such_module"):
        shared_of(trials[0].config, artifacts)


def test_an_artifact_of_wrong_input_states_the_reason(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "data.num_held_out=100000", "data.num_validation=5")
    with pytest.raises(ArtifactError, match=r"^images cannot be made: .*100000"):
        build_artifacts(trials, Memory())


def test_an_error_without_a_message_states_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dgray.data.published.digits", fail)
    with pytest.raises(
        ArtifactError, match=r"^images cannot be made: MemoryError; it ran out of memory: lower"
    ):
        build_artifacts(trials_of(tmp_path), Memory())

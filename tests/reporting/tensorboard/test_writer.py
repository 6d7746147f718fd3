"""Event files, read back with the reader of TensorBoard."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.custom_scalar import layout_pb2

from dgray.record.row import CheckpointResult, Cloud, Row
from dgray.record.row_schema import to_table
from dgray.reporting.build import read_table
from dgray.reporting.raster import cloud_png, frame_of
from dgray.reporting.tensorboard.front import MAX_TAGS, FrontPage
from dgray.reporting.tensorboard.rows import Rows
from dgray.reporting.tensorboard.writer import (
    TensorBoardWriter,
    _cloud_tag,
    rebuild,
    run_name,
)
from dgray.reporting.where import select
from tests.reporting.event_files import columns, hparams, read
from tests.reporting.synthetic import Member, row
from tests.reporting.synthetic_overfit import results

GROUP = "at w=1, base unguided"
LABEL = "cross_entropy, width 128, num_real 100"


def parts(result: CheckpointResult) -> tuple[Rows, Rows]:
    rows, clouds = to_table(result.rows, Row), to_table(result.clouds, Cloud)
    return Rows.of_table(rows), Rows.of_table(clouds)


def run_of(folder: Path, label: str) -> Path:
    (run,) = folder.glob(f"{label} (*")
    return run


@pytest.fixture(scope="module")
def rebuilt(overfit_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events") / "tensorboard"
    rebuild(read_table(overfit_run), folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints() -> list[CheckpointResult]:
    return [result for result in results() if result.rows[0].label == LABEL]


def test_scalars_are_means_over_replicates(
    rebuilt: Path, checkpoints: list[CheckpointResult]
) -> None:
    events = read(run_of(rebuilt, LABEL))
    curve = events.Scalars(f"{GROUP}/path_kl")
    assert [point.step for point in curve] == [5, 20, 80, 400]
    for point, result in zip(curve, checkpoints, strict=True):
        values = [
            r["path_kl"] for r in result.rows if r.guidance_weight == 1 and r.sampler == "ode"
        ]
        assert point.value == pytest.approx(np.mean(values), rel=1e-6)
        assert len(values) == 3


@pytest.fixture(scope="module")
def everything(overfit_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all") / "tensorboard"
    rebuild(select(read_table(overfit_run), "width=128, num_real=100"), folder, has_all=True)
    return folder


def test_the_front_page_has_at_most_a_dozen_curves_per_trial(rebuilt: Path) -> None:
    runs = [path for path in rebuilt.iterdir() if path.is_dir()]
    counts = {run.name: len(read(run).Tags()["scalars"]) for run in runs}
    assert max(counts.values()) <= MAX_TAGS == 12
    tags = read(run_of(rebuilt, LABEL)).Tags()
    assert {"loss/train", "loss/held_out", "best/path_kl", f"{GROUP}/kl"} <= set(tags["scalars"])
    assert tags["images"] == ["samples/w=1 (ode)"]
    assert sorted(tags["scalars"])[0].startswith(GROUP)  # the first group of the page


def test_the_base_is_a_line_over_the_epochs_of_the_others(
    overfit_run: Path, rebuilt: Path
) -> None:
    rows = read_table(overfit_run).rows
    value = rows[rows["objective"] == "base"]["path_kl"].iloc[0]
    (base,) = rebuilt.glob("base (*")
    points = [(point.step, point.value) for point in read(base).Scalars(f"{GROUP}/path_kl")]
    assert points == [(5, pytest.approx(value)), (400, pytest.approx(value))]


def test_curves_by_noise_level_are_means_of_bins_over_replicates() -> None:
    member = Member("kl", {"fit.objective": "kl"})
    edges = [0.01, 0.1, 1.0, 10.0, 100.0]
    bins = ([0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.5, 0.6])
    rows = [
        row(
            member,
            5,
            weight,
            replicate=index,
            path_kl=0.5,
            path_kl_change_bins=[value * weight for value in values],
            sigma_edges=edges,
        )
        for index, values in enumerate(bins)
        for weight in (0.5, 1.0)
    ]
    of_checkpoint = Rows.of_table(to_table(rows, Row))
    scalars = {s.tag: s.value for s in FrontPage(1.0, (5, 5)).scalars(of_checkpoint, num_best=2)}
    assert scalars == pytest.approx(
        {
            f"{GROUP}/path_kl": 0.5,
            "by noise level, path_kl_change/sigma=0.032": 0.2,
            "by noise level, path_kl_change/sigma=0.32": 0.3,
            "by noise level, path_kl_change/sigma=3.2": 0.4,
            "by noise level, path_kl_change/sigma=32": 0.5,
        }
    )
    fewer = [s.tag for s in FrontPage(1.0, (5, 5), 6).scalars(of_checkpoint, num_best=2)]
    assert len(fewer) == 2  # the curves of a search take the place of all but one level


def test_the_layout_shows_every_curve_of_a_trial(rebuilt: Path) -> None:
    events = read(rebuilt)
    (tensor,) = events.Tensors("custom_scalars__config__")
    content = layout_pb2.Layout.FromString(tensor.tensor_proto.string_val[0])
    patterns = [tag for c in content.category for chart in c.chart for tag in chart.multiline.tag]
    tags = read(run_of(rebuilt, LABEL)).Tags()["scalars"]
    for tag in tags:
        assert sum(bool(re.search(pattern, tag)) for pattern in patterns) == 1, tag
    assert content.category[0].title == f"Guided models {GROUP}"


def test_texts_are_in_the_root_run(overfit_run: Path, tmp_path: Path) -> None:
    table = select(read_table(overfit_run), "width=128, num_real=100, epoch=5")
    rebuild(table, tmp_path / "tb", named_texts={"finding": "- worse", "study file": "    a: 1"})
    events = read(tmp_path / "tb")
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in ("finding",)}
    assert texts == {"finding": b"- worse"}
    assert events.summary_metadata["study file"].plugin_data.plugin_name == "text"


def test_losses_sampler_metrics_and_bins_have_their_tags(everything: Path) -> None:
    tags = set(read(run_of(everything, LABEL)).Tags()["scalars"])
    assert {"loss/train", "loss/held_out", "kl/w=1", "path_kl/w=calibrated"} <= tags
    assert {"kl_sde/w=1 (sde)", "kl_sampler/w=0.5 (ode)"} <= tags
    assert sum(tag.startswith("loss_held_out_bins/") for tag in tags) == 12


def test_fitted_loss_has_a_point_for_every_recorded_epoch(
    everything: Path, checkpoints: list[CheckpointResult]
) -> None:
    curve = read(run_of(everything, LABEL)).Scalars("loss/fit")
    kept = sorted({point.epoch for result in checkpoints for point in result.losses})
    assert [point.step for point in curve] == kept
    assert len(kept) > 20


def test_training_and_held_out_loss_are_those_of_the_rows(
    everything: Path, checkpoints: list[CheckpointResult]
) -> None:
    events = read(run_of(everything, LABEL))
    for tag, name in (("loss/train", "loss_train"), ("loss/held_out", "loss_held_out")):
        points = [(point.step, point.value) for point in events.Scalars(tag)]
        rows = [(result.epoch, result.rows[0][name]) for result in checkpoints]
        np.testing.assert_allclose(points, rows, rtol=1e-6)
    assert events.Scalars("loss/fit")[-1].value < 0.9  # as optimised: another number


def test_clouds_are_images_of_every_checkpoint(rebuilt: Path) -> None:
    images = read(run_of(rebuilt, LABEL)).Images("samples/w=1 (ode)")
    assert [image.step for image in images] == [5, 20, 80, 400]
    picture = Image.open(io.BytesIO(images[0].encoded_image_string))
    assert picture.size == (320, 320)


def test_training_images_nearest_to_samples_are_not_shown_as_samples() -> None:
    setting = {"is_calibrated": False, "guidance_weight": 1.0, "sampler": "ode"}
    sources = ("data", "real", "guided", "nearest")
    tags = {_cloud_tag({"source": source, **setting}) for source in sources}
    assert len(tags) == len(sources)


def test_hparams_hold_every_axis_and_the_best_metrics(rebuilt: Path) -> None:
    run = run_of(rebuilt, LABEL)
    values = hparams(run)
    assert values["discriminator.width"] == 128
    assert values["objective"] == "cross_entropy"
    axes, metrics = columns(rebuilt)
    assert set(axes) == {"objective", "discriminator.width", "data.num_real"}
    lacking = set(metrics) - set(read(run).Tags()["scalars"])
    assert lacking == {"best/observable_path_kl"}  # not in the study


def test_best_setting_is_monotone_on_validation(rebuilt: Path) -> None:
    chosen_by = [p.value for p in read(run_of(rebuilt, LABEL)).Scalars("best/validation_change")]
    assert chosen_by == sorted(chosen_by, reverse=True)
    assert chosen_by[-1] == chosen_by[-2]  # the last checkpoint overfits: the best is an earlier


def test_rebuilding_duplicates_nothing(overfit_run: Path, rebuilt: Path) -> None:
    before = {path.parent.name for path in rebuilt.rglob("events*")}
    rebuild(read_table(overfit_run), rebuilt)
    files = list(rebuilt.rglob("events*"))
    assert {path.parent.name for path in files} == before
    assert len(files) == len(before)
    assert len(read(run_of(rebuilt, LABEL)).Scalars(f"{GROUP}/kl")) == 4
    assert [p.name for p in rebuilt.parent.iterdir()] == ["tensorboard"]


def test_incremental_writing_equals_rebuilding(
    rebuilt: Path, checkpoints: list[CheckpointResult], tmp_path: Path
) -> None:
    writer = TensorBoardWriter(tmp_path)
    for count, result in enumerate(checkpoints, start=1):
        writer.write(*parts(result))
        assert len(read(run_of(tmp_path, LABEL)).Scalars(f"{GROUP}/kl")) == count
    live, again = (read(run_of(folder, LABEL)) for folder in (tmp_path, rebuilt))
    assert set(live.Tags()["scalars"]) == set(again.Tags()["scalars"])
    for tag in live.Tags()["scalars"]:
        points = [[(p.step, p.value) for p in events.Scalars(tag)] for events in (live, again)]
        np.testing.assert_allclose(points[0], points[1], rtol=1e-6)


def test_run_names_are_valid_folder_names() -> None:
    name = run_name("kl-0a1b2c3d", "kl, name a/b: *?, shift [0.1, 0.2]")
    assert name == "kl, name a_b_ _, shift [0.1, 0.2] (0a1b2c3d)"


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_cloud_is_drawn_where_its_points_are(dimension: int) -> None:
    points = np.random.default_rng(0).normal(size=(500, dimension))
    frame = frame_of(points)
    png = cloud_png(points, frame, (0.0, 0.0, 1.0), None)
    pixels = np.asarray(Image.open(io.BytesIO(png)), float) / 255
    ink = 1 - pixels[..., 0]  # blue on white: red is missing where points are
    columns = np.average(np.arange(320), weights=ink.sum(axis=0))
    expected = (points[:, 0].mean() - frame.low[0]) / frame.side * 320
    assert columns == pytest.approx(expected, abs=5)
    assert ink[:5].sum() == 0

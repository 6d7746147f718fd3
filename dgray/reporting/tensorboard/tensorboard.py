"""TensorBoard event files from checkpoints, without torch and without TensorFlow.

A run per trial, replicates averaged: losses, metrics per weight and sampler, sample clouds as
images, and the trial's line in the hparams tab. ``TensorBoardWriter`` appends while a study runs;
``rebuild`` writes everything again from the run folder.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.summary.writer.record_writer import RecordWriter

from dgray.record.row import CheckpointResult, Row
from dgray.record.row_schema import to_table
from dgray.reporting.figures.image_grid import grid_png
from dgray.reporting.figures.theme import COLOURS
from dgray.reporting.search_table import CellPoints
from dgray.reporting.table import StudyTable
from dgray.reporting.tensorboard.hparams import (
    Axes,
    Interval,
    experiment,
    hparams_of,
    session_end,
    session_start,
)
from dgray.reporting.tensorboard.raster import SIZE, Frame, cloud_png, frame_of
from dgray.reporting.tensorboard.scalars import (
    BEST,
    Scalar,
    best_scalars,
    loss_scalars,
    metric_scalars,
    told_scalars,
)

_UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')


class TensorBoardWriter:
    """Appends checkpoints to the event files of a folder; nothing stays open between calls."""

    def __init__(self, folder: Path) -> None:
        """``folder``: what ``tensorboard --logdir`` is given."""
        self._folder = folder
        # Later files sort later: after a rebuild TensorBoard goes on to the new ones.
        self._file = f"events.out.tfevents.{time.time_ns()}.dgray"
        self._best: dict[str, tuple[float, list[Scalar]]] = {}
        self._data: np.ndarray | None = None
        self._frame: Frame | None = None

    def write(self, result: CheckpointResult) -> None:
        """Everything of one checkpoint."""
        self.write_frames(
            to_table(result.rows, Row, result.columns).to_pandas(),
            pd.DataFrame([vars(cloud) for cloud in result.clouds]),
            pd.DataFrame([vars(point) for point in result.losses]),
        )

    def write_frames(self, rows: pd.DataFrame, clouds: pd.DataFrame, losses: pd.DataFrame) -> None:
        """The same from tables: rows, clouds and losses of one checkpoint of one trial."""
        rows = rows[rows["status"] == "ok"]
        if rows.empty:
            return
        first = rows.iloc[0]
        trial, epoch = str(first["trial"]), int(first["epoch"])
        events = [
            *_scalars(loss_scalars(rows, losses)),
            *_scalars(metric_scalars(rows)),
            *_scalars(self._best_so_far(trial, best_scalars(rows))),
            *self._images(clouds, epoch, str(first["objective"])),
        ]
        run = self._folder / run_name(trial, str(first["label"]))
        if not (run / self._file).exists():
            values = hparams_of(str(first["objective"]), json.loads(first["axes"]))
            started = [_event(0, session_start(values, trial)), _event(0, session_end())]
            events = [_opening(), *started, *events]
        _append(run / self._file, events)

    def write_experiment(self, axes: Axes, metrics: Sequence[str] = ()) -> None:
        """Columns of the hparams tab; ``metrics``: tags beside those of the best setting."""
        columns = experiment(axes, [*BEST, *metrics])
        _append(self._folder / self._file, [_opening(), _event(0, columns)])

    def write_told(self, trial: str, label: str, scalars: Iterable[Scalar]) -> None:
        """What a search was told of a trial whose checkpoints are written."""
        _append(self._folder / run_name(trial, label) / self._file, _scalars(scalars))

    def moved_to(self, folder: Path) -> None:
        """Its folder is there now; what comes is appended to the same files."""
        self._folder = folder

    def _best_so_far(
        self, trial: str, found: tuple[float, list[Scalar]] | None
    ) -> Iterable[Scalar]:
        """The best setting of this checkpoint, or an earlier one if better on validation."""
        if found is None:
            return []
        chosen_by, scalars = min(self._best.get(trial, found), found, key=lambda pair: pair[0])
        self._best[trial] = (chosen_by, scalars)
        epoch = found[1][0].epoch if found[1] else 0
        return [Scalar(tag=s.tag, epoch=epoch, value=s.value) for s in scalars]

    def _images(self, clouds: pd.DataFrame, epoch: int, objective: str) -> Iterator[Event]:
        for cloud in clouds.itertuples():
            points = np.stack([np.asarray(point, float) for point in cloud.points])
            if getattr(cloud, "shape", None) is not None:
                content, (height, width) = grid_png(points, cloud.shape)
                yield _picture(_cloud_tag(cloud), epoch, content, height, width)
                continue
            if cloud.source == "data" or self._frame is None:
                self._frame = frame_of(points)
            if cloud.source == "data":
                self._data = points
            behind = self._data if self._data is not None and self._fits(points) else None
            colour = to_rgb(COLOURS["data" if cloud.source in ("data", "real") else objective])
            frame = self._frame if self._fits(points) else frame_of(points)
            content = cloud_png(points, frame, colour, None if cloud.source == "data" else behind)
            yield _picture(_cloud_tag(cloud), epoch, content, SIZE, SIZE)

    def _fits(self, points: np.ndarray) -> bool:
        return self._data is None or self._data.shape[1] == points.shape[1]


def rebuild(
    table: StudyTable,
    folder: Path,
    axes: Axes | None = None,
    searches: Sequence[CellPoints] = (),
) -> TensorBoardWriter:
    """All event files again, written beside ``folder`` and put in its place.

    Args:
        table: every row so far.
        folder: what ``tensorboard --logdir`` is given.
        axes: columns of the hparams tab and their values; None: those that occur in the table.
        searches: what they were told of each trial goes beside its other numbers.

    Returns:
        A writer that goes on in ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        writer = TensorBoardWriter(beside)
        told = [told_scalars(search) for search in searches]
        tags = dict.fromkeys(s.tag for trials in told for each in trials.values() for s in each)
        writer.write_experiment(axes or _axes_of(table, searches), list(tags))
        clouds = dict(iter(table.clouds.groupby(["trial", "epoch"])))
        for (trial, epoch), rows in table.rows.groupby(["trial", "epoch"], sort=False):
            losses = table.losses[table.losses["trial"] == trial]
            before = rows_before(table.rows, str(trial), int(epoch))
            part = losses[(losses["epoch"] > before) & (losses["epoch"] <= epoch)]
            writer.write_frames(rows, clouds.get((trial, epoch), table.clouds.iloc[:0]), part)
        labels = dict(zip(table.rows["trial"], table.rows["label"], strict=True))
        for trials in told:
            for trial, scalars in trials.items():
                writer.write_told(trial, labels[trial], scalars)
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        if folder.exists():
            folder.rename(old / folder.name)
        beside.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        beside.rename(folder)
        shutil.rmtree(old)
        writer.moved_to(folder)
        return writer
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _axes_of(table: StudyTable, searches: Sequence[CellPoints]) -> Axes:
    drawn = {
        name: Interval(given.low, given.high)
        for search in searches
        for name, given in search.ranges.items()
        if given.kind != "choice"
    }
    objectives = table.rows["objective"].unique().tolist()
    return {"objective": objectives} | {
        axis: drawn.get(axis, table.rows[axis].dropna().unique().tolist())
        for axis in table.axes
        if axis != "fit.objective"
    }


def rows_before(rows: pd.DataFrame, trial: str, epoch: int) -> int:
    """The checkpoint before this one; losses since then belong to it."""
    earlier = rows.loc[(rows["trial"] == trial) & (rows["epoch"] < epoch), "epoch"]
    return int(earlier.max()) if len(earlier) else -1


def run_name(trial: str, label: str) -> str:
    """A name to recognise a trial by, unique by the hash of its id."""
    return f"{_UNSAFE.sub('_', label).strip('. ')} ({trial.rsplit('-', 1)[-1]})"


def _picture(tag: str, epoch: int, content: bytes, height: int, width: int) -> Event:
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="images"))
    return _event(epoch, Summary(value=[Summary.Value(tag=tag, image=image, metadata=metadata)]))


def _cloud_tag(cloud: Any) -> str:
    if cloud.source in ("data", "real"):
        return f"samples/{'training points' if cloud.source == 'real' else 'data'}"
    weight = "calibrated" if cloud.is_calibrated else f"{cloud.guidance_weight:g}"
    kind = "nearest training images" if cloud.source == "nearest" else "samples"
    return f"{kind}/w={weight} ({cloud.sampler})"


def _scalars(scalars: Iterable[Scalar]) -> Iterator[Event]:
    for scalar in scalars:
        value = Summary.Value(tag=scalar.tag, simple_value=scalar.value)
        yield _event(scalar.epoch, Summary(value=[value]))


def _opening() -> Event:
    """What every event file begins with."""
    return Event(wall_time=time.time(), file_version="brain.Event:2")


def _event(step: int, summary: Summary) -> Event:
    return Event(wall_time=time.time(), step=step, summary=summary)


def _append(path: Path, events: Iterable[Event]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()

"""TensorBoard event files from checkpoints, without torch and without TensorFlow.

A trial is one TensorBoard run with replicates averaged: losses, metrics per guidance weight and
sampler, sample clouds as images, and its line in the HPARAMS tab. ``TensorBoardWriter`` appends
while a study runs; ``rebuild`` writes all files again from the rows of a run folder.

The writers of tensorboardX keep a file, a queue and a thread open per trial and replace ``=`` and
brackets in tags, so the records are written here.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.summary.writer.record_writer import RecordWriter

from dgray.files import inside
from dgray.reporting.legible import printable, shortened, shortened_bytes
from dgray.reporting.presentation import BASE, DATA_COLOUR, objective, sampler_preference
from dgray.reporting.raster import SIZE, Frame, cloud_png, frame_of, grid_png
from dgray.reporting.searches import SearchPoints
from dgray.reporting.selection import OBJECTIVE, main_weight
from dgray.reporting.table import StudyTable
from dgray.reporting.tensorboard.front import (
    NO_EPOCHS,
    FrontPage,
    is_front_loss,
    layout,
    texts,
)
from dgray.reporting.tensorboard.hparams import Axes, Interval, experiment, hparams_of, session
from dgray.reporting.tensorboard.rows import Rows, checkpoints
from dgray.reporting.tensorboard.scalars import (
    Scalar,
    best_scalars,
    best_tags,
    loss_scalars,
    metric_scalars,
    search_scalars,
)

_MAX_NAME, _MAX_ID = 200, 40  # bytes of the name of a folder, characters of the hash of an id
_NO_ROWS = Rows({}, 0)
_UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')


class TensorBoardWriter:
    """Writer that appends checkpoints to the event files of a folder.

    No file stays open between calls.
    """

    def __init__(
        self, folder: Path, front: FrontPage = NO_EPOCHS, *, has_all: bool = False
    ) -> None:
        """Create a writer.

        Args:
            folder: the argument of ``tensorboard --logdir``.
            front: choice of the curves.
            has_all: write every metric of every setting, not only the front page.
        """
        self._folder, self._front, self._has_all = folder, front, has_all
        self._has_layout = False
        # Later files sort later, so that TensorBoard continues with the new ones after a rebuild.
        self._file = f"events.out.tfevents.{time.time_ns()}.dgray"
        self._best: dict[str, tuple[float, list[Scalar]]] = {}
        self._data: np.ndarray | None = None
        self._frame: Frame | None = None

    def write(self, rows: Rows, clouds: Rows, losses: Mapping[int, float] | None = None) -> None:
        """Append one checkpoint of one trial.

        Args:
            rows: its rows.
            clouds: its sample clouds.
            losses: training loss by epoch since the checkpoint before; used with ``has_all``.
        """
        rows = rows.where(status == "ok" for status in rows["status"])
        if not len(rows):
            return
        trial, epoch, name, label, axes = (
            rows[column][0] for column in ("trial", "epoch", "objective", "label", "axes")
        )
        best = list(self._best_so_far(trial, best_scalars(rows)))
        front = list(self._front.scalars(rows, len(best)))
        of_losses = loss_scalars(rows, losses or {})
        shown = [s for s in of_losses if self._has_all or is_front_loss(s.tag)]
        tags = {scalar.tag for scalar in front}
        if self._has_all:
            front += [scalar for scalar in metric_scalars(rows) if scalar.tag not in tags]
        clouds = clouds if self._has_all else _one_cloud(clouds)
        events = [
            *_scalars([*shown, *front, *best]),
            *self._images(clouds, epoch, to_rgb(objective(name).colour)),
        ]
        if objective(name).is_trained and not self._has_layout:
            self._write_summary(layout(list(dict.fromkeys(s.tag for s in (*front, *best)))))
            self._has_layout = True
        run = inside(self._folder, run_name(trial, label))
        if not (run / self._file).exists():
            start = session(hparams_of(name, json.loads(axes)), trial)
            events = [_opening(), *(_event(0, summary) for summary in start), *events]
        _append(run / self._file, events)

    def write_experiment(self, axes: Axes, metrics: Sequence[str] = ()) -> None:
        """Write the columns of the HPARAMS tab; ``metrics``: tags besides the best setting's."""
        self._write_summary(experiment(axes, [*best_tags(), *metrics]))

    def write_texts(self, named: Mapping[str, str]) -> None:
        """Write texts in Markdown, by their tags."""
        self._write_summary(texts(named))

    def _write_summary(self, summary: Summary) -> None:
        path = self._folder / self._file
        opening = [] if path.exists() else [_opening()]
        _append(path, [*opening, _event(0, summary)])

    def write_search(self, trial: str, label: str, scalars: Iterable[Scalar]) -> None:
        """Append the values of a search to a trial whose checkpoints are written."""
        _append(inside(self._folder, run_name(trial, label)) / self._file, _scalars(scalars))

    def moved_to(self, folder: Path) -> None:
        """Continue in ``folder``, to which the files have been moved."""
        self._folder = folder

    def _best_so_far(
        self, trial: str, best: tuple[float, list[Scalar]] | None
    ) -> Iterable[Scalar]:
        """The best setting of this checkpoint, or of an earlier one if better on validation."""
        if best is None:
            return []
        value, scalars = min(self._best.get(trial, best), best, key=lambda pair: pair[0])
        self._best[trial] = (value, scalars)
        epoch = best[1][0].epoch if best[1] else 0
        return [Scalar(tag=s.tag, epoch=epoch, value=s.value) for s in scalars]

    def _images(
        self, clouds: Rows, epoch: int, colour: tuple[float, float, float]
    ) -> Iterator[Event]:
        for cloud in clouds.records():
            points = np.stack([np.asarray(point, float) for point in cloud["points"]])
            if cloud.get("shape") is not None:
                content, (height, width) = grid_png(points, cloud["shape"])
                yield _image(_cloud_tag(cloud), epoch, content, height, width)
                continue
            is_data = cloud["source"] == "data"
            if is_data or self._frame is None:
                self._frame = frame_of(points)
            if is_data:
                self._data = points
            fits = self._data is None or self._data.shape[1] == points.shape[1]
            frame = self._frame if fits else frame_of(points)
            behind = self._data if fits and not is_data else None
            tint = to_rgb(DATA_COLOUR) if cloud["source"] in ("data", "real") else colour
            content = cloud_png(points, frame, tint, behind)
            yield _image(_cloud_tag(cloud), epoch, content, SIZE, SIZE)


def rebuild(
    table: StudyTable,
    folder: Path,
    axes: Axes | None = None,
    searches: Sequence[SearchPoints] = (),
    named_texts: Mapping[str, str] | None = None,
    *,
    front: FrontPage | None = None,
    has_all: bool = False,
) -> TensorBoardWriter:
    """Write all event files again, beside ``folder``, and replace it.

    Args:
        table: all rows so far.
        folder: the argument of ``tensorboard --logdir``.
        axes: columns of the HPARAMS tab and their values; None: those in the table.
        searches: searches whose values are written too.
        named_texts: texts in Markdown, by their tags.
        front: choice of the curves; None: that of the table.
        has_all: write every metric of every setting, not only the front page.

    Returns:
        A writer that continues in ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        writer = TensorBoardWriter(beside, front or front_of(table, searches), has_all=has_all)
        writer.write_texts(named_texts or {})
        losses = _losses_by_trial(table) if has_all else {}
        _write_table(writer, table, losses, axes, searches)
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


def _write_table(
    writer: TensorBoardWriter,
    table: StudyTable,
    losses: Mapping[str, Mapping[int, float]],
    axes: Axes | None,
    searches: Sequence[SearchPoints],
) -> None:
    by_trial = [item for search in searches for item in search_scalars(search).items()]
    tags = dict.fromkeys(scalar.tag for _, scalars in by_trial for scalar in scalars)
    writer.write_experiment(axes or _axes_of(table, searches), list(tags))
    clouds = {(trial, epoch): rows for trial, epoch, rows in checkpoints(table.clouds)}
    last: dict[str, int] = {}  # the checkpoint before; losses since then belong to this one
    for trial, epoch, rows in checkpoints(table.rows.drop(columns=list(table.axes))):
        of_trial, before = losses.get(trial, {}), last.get(trial, -1)
        recent = {e: value for e, value in of_trial.items() if before < e <= epoch}
        writer.write(rows, clouds.get((trial, epoch), _NO_ROWS), recent)
        last[trial] = epoch
    labels = dict(zip(table.rows["trial"], table.rows["label"], strict=True))
    for trial, scalars in by_trial:
        if trial in labels:  # not if its rows are damaged
            writer.write_search(trial, labels[trial], scalars)


def _losses_by_trial(table: StudyTable) -> dict[str, dict[int, float]]:
    """Return, per trial, the training loss by epoch, mean over replicates."""
    losses: dict[str, dict[int, float]] = {}
    means = table.losses.groupby(["trial", "epoch"])["loss_train"].mean()
    for (trial, epoch), value in means.items():
        losses.setdefault(trial, {})[int(epoch)] = float(value)
    return losses


def front_of(table: StudyTable, searches: Sequence[SearchPoints] = ()) -> FrontPage:
    """Return the choice of curves of a study: its epochs, and what searches add."""
    epochs = [int(epoch) for epoch in table.rows["epoch"].unique() if epoch > 0]
    added = max((2 * len(search.metrics) for search in searches), default=0)
    rows = table.rows[table.rows["objective"] != BASE.name]
    return FrontPage(main_weight(rows), (min(epochs), max(epochs)) if epochs else None, added)


def _one_cloud(clouds: Rows) -> Rows:
    """The samples at the main weight of the preferred sampler, or else the first; and the data."""
    sources = clouds["source"]
    data = [index for index, source in enumerate(sources) if source == "data"]
    guided = [index for index, source in enumerate(sources) if source == "guided"]
    guided = guided or [index for index in range(len(clouds)) if index not in data]
    weights = {
        index: None if clouds["is_calibrated"][index] else float(clouds["guidance_weight"][index])
        for index in guided
    }
    constant = [weight for weight in weights.values() if weight is not None]
    main = min(constant, key=lambda weight: abs(weight - 1), default=None)
    chosen = [index for index, weight in weights.items() if weight == main]
    chosen.sort(key=lambda index: sampler_preference(clouds["sampler"][index]))
    return clouds.take([*data, *chosen[:1]])


def _axes_of(table: StudyTable, searches: Sequence[SearchPoints]) -> Axes:
    drawn = {
        name: Interval(values.low, values.high)
        for search in searches
        for name, values in search.ranges.items()
        if values.kind != "choice"
    }
    objectives = table.rows["objective"].unique().tolist()
    return {"objective": objectives} | {
        axis: drawn.get(axis, table.rows[axis].dropna().unique().tolist())
        for axis in table.axes
        if axis != OBJECTIVE
    }


def run_name(trial: str, label: str) -> str:
    """Return the name of a trial's run: its label, and the hash of its id to make it unique.

    The name is valid on all systems, whatever the label and the id are.
    """
    end = f" ({_UNSAFE.sub('_', shortened(printable(trial.rsplit('-', 1)[-1]), _MAX_ID))})"
    start = _UNSAFE.sub("_", printable(label)).strip(". ")
    return shortened_bytes(start, _MAX_NAME - len(end.encode())) + end


def _image(tag: str, epoch: int, content: bytes, height: int, width: int) -> Event:
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="images"))
    return _event(epoch, Summary(value=[Summary.Value(tag=tag, image=image, metadata=metadata)]))


def _cloud_tag(cloud: Mapping[str, Any]) -> str:
    source = cloud["source"]
    if source in ("data", "real"):
        return f"samples/{'training points' if source == 'real' else 'data'}"
    weight = "calibrated" if cloud["is_calibrated"] else f"{cloud['guidance_weight']:g}"
    kind = "nearest training images" if source == "nearest" else "samples"
    return f"{kind}/w={weight} ({cloud['sampler']})"


def _scalars(scalars: Iterable[Scalar]) -> Iterator[Event]:
    for scalar in scalars:
        value = Summary.Value(tag=scalar.tag, simple_value=scalar.value)
        yield _event(scalar.epoch, Summary(value=[value]))


def _opening() -> Event:
    """The first record of every event file."""
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

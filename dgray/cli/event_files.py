"""Event files of a running study: the part that needs the libraries of reports.

``live_tensorboard`` imports it in its thread, so that a study does not start later for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dgray.config.parts import BASE
from dgray.config.reading.domains import Domain
from dgray.files import inside
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import source_of, study_text
from dgray.reporting.table import StudyTable, study_table
from dgray.reporting.tensorboard.front import FrontPage
from dgray.reporting.tensorboard.hparams import Axes, Interval, hparams_of
from dgray.reporting.tensorboard.rows import Rows
from dgray.reporting.tensorboard.writer import TensorBoardWriter, rebuild


def open_writer(
    folder: RunFolder,
    trials: Sequence[Trial],
    domains: Sequence[Domain],
    earlier: StudyTable | None,
) -> TensorBoardWriter:
    """Return a writer of the event files of a run, with its earlier results if there are any.

    Args:
        folder: the run folder.
        trials: trials that are certain to run, and examples of those of searches.
        domains: fields that searches vary, with their ranges.
        earlier: results of earlier sessions.
    """
    events = inside(folder.path, "tensorboard")
    axes, front = _axes(trials, domains), _front(trials)
    if earlier is not None:
        return rebuild(earlier, events, axes, front=front)
    writer = TensorBoardWriter(events, front)
    writer.write_experiment(axes)
    writer.write_texts(study_text(source_of(folder)))
    return writer


def write_checkpoint(
    writer: TensorBoardWriter, folder: RunFolder, trial_id: str, epoch: int
) -> None:
    """Read a checkpoint back from the run folder and append it to the event files."""
    rows, clouds = folder.read_rows(trial_id, epoch), folder.read_clouds(trial_id, epoch)
    writer.write(Rows.of_table(rows), Rows.of_table(clouds))


def read_results(folder: RunFolder) -> StudyTable | None:
    """Return the results of earlier sessions; None if there are none."""
    rows = folder.row_table()
    return study_table(rows, folder.clouds(), folder.losses()) if rows.num_rows else None


def _front(trials: Iterable[Trial]) -> FrontPage:
    """Choice of curves by the plan: the epochs of its trials, and the metrics of its searches."""
    trials = list(trials)
    epochs = [epoch for trial in trials for epoch in trial.epochs if epoch > 0]
    searches = [trial.config.search for trial in trials]
    metrics = max((len(s.metrics) for s in searches if s.method != "grid"), default=0)
    weights = [
        setting.guidance_weight
        for trial in trials
        if trial.objective != BASE
        for setting in trial.settings
        if setting.guidance_weight is not None
    ]
    weight = min(weights, key=lambda value: abs(value - 1), default=None)
    return FrontPage(weight, (min(epochs), max(epochs)) if epochs else None, 2 * metrics)


def _axes(trials: Iterable[Trial], domains: Iterable[Domain]) -> Axes:
    """Columns of the HPARAMS tab, with all values that the study will have."""
    axes: dict[str, Sequence[Any] | Interval] = {}
    for trial in trials:
        for name, value in hparams_of(trial.objective, trial.axes).items():
            values = axes.setdefault(name, [])
            if isinstance(values, list) and value not in values:
                values.append(value)
    for domain in domains:
        name = "objective" if domain.path == ("fit", "objective") else domain.name
        is_drawn = domain.kind != "choice"
        axes[name] = Interval(domain.low, domain.high) if is_drawn else list(domain.choices)
    return axes

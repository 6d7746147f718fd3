"""A run as an object: its rows, its report, and its models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dgray.api.html import console_html, recorded
from dgray.api.model import Model
from dgray.cli.summary_view import render_summary
from dgray.errors import FigureError, NoSuchModelError, one_line
from dgray.record.run_folder import RunFolder
from dgray.record.storage.location import Uri, location
from dgray.record.storage.working_copy import reading
from dgray.reporting.build import source_of, table_of
from dgray.reporting.completeness import gaps
from dgray.reporting.figures.request import ALL_KINDS, FigureRequest
from dgray.reporting.figures.style import style_of
from dgray.reporting.presentation import BASE, SELECTION, column_spec
from dgray.reporting.searches import SearchPoints, chosen_trials, read_searches
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import Finding, find
from dgray.reporting.trial_names import find_trial

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from dgray.guided.discriminator import SampleDiscriminator
    from dgray.guided.model import GuidedDenoiser
    from dgray.reporting.figures.theme import Drawing

CALIBRATED = "calibrated"
_WIDTH = 100


@dataclass(frozen=True)
class _Contents:
    """Content of a run; ``shown``: the table without trials that no search selected."""

    table: StudyTable
    shown: StudyTable
    searches: tuple[SearchPoints, ...]
    incomplete: tuple[str, ...]
    finding: Finding


@dataclass(frozen=True)
class Run:
    """Run of a study, for reading; made by ``dgray.open_run`` and ``Study.run``.

    The rows are read once, when they are first needed; open the run again to see later ones.

    Attributes:
        place: folder, or URI of an object store.
    """

    place: Path | Uri

    @cached_property
    def _contents(self) -> _Contents:
        with self.folder() as folder:
            table = table_of(folder)
            searches = read_searches(folder, table)
            shown = chosen_trials(table, searches) if searches else table
            finding = find(shown, source_of(folder).question, searches)
            return _Contents(table, shown, searches, gaps(folder, table, searches), finding)

    @contextmanager
    def folder(self) -> Iterator[RunFolder]:
        """Open the run's folder for reading; of a run in an object store, a temporary copy."""
        with reading(self.place) as folder:
            yield folder

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Reasons why rows of the study are missing; empty if the run is complete."""
        return self._contents.incomplete

    @property
    def is_complete(self) -> bool:
        """True if the run has every row of the study."""
        return not self.incomplete

    @property
    def axes(self) -> tuple[str, ...]:
        """Training axes of the study, which are columns of ``rows``."""
        return self._contents.table.axes

    @property
    def columns(self) -> Mapping[str, str]:
        """Meaning of each column of ``rows``."""
        schema = self._contents.table.schema
        docs = {name: schema.field(name).metadata or {} for name in schema.names}
        meanings = {name: doc.get(b"doc", b"").decode() for name, doc in docs.items()}
        return {"weight": "guidance weight as text, or 'calibrated'; never null", **meanings}

    def rows(self) -> pd.DataFrame:
        """Return all rows: one for each trial, replicate, checkpoint and setting.

        ``guidance_weight`` is NaN where the weight is calibrated, so that ``groupby`` drops these
        rows; group by ``weight``, which is text.
        """
        return _with_weight(self._contents.table.rows)

    def means(self) -> pd.DataFrame:
        """Return the means over replicates, with standard errors in columns ``{metric}_se``."""
        return _with_weight(self._contents.table.aggregated)

    def summary(self) -> pd.DataFrame:
        """Return the summary of the report: values and standard errors by model."""
        finding = self._contents.finding
        lines = []
        for row in finding.summary:
            line: dict[str, Any] = {"model": row.name, "setting": row.setting}
            for name, number in row.estimates.items():
                line |= {name: number.value, f"{name}_se": number.error}
            lines.append(line)
        return pd.DataFrame(lines).set_index("model")

    @property
    def finding(self) -> str:
        """Statements of the report, a line each."""
        return "\n".join(statement.text for statement in self._contents.finding.statements)

    @property
    def trials(self) -> pd.DataFrame:
        """Id, label, objective and axes of every trial."""
        rows = self._contents.table.rows.drop_duplicates("trial")
        return rows[["trial", "label", "objective", *self.axes]].reset_index(drop=True)

    def trial(self, trial: str) -> pd.DataFrame:
        """Return the rows of one trial, selected by its name (``kl width=64``) or id.

        Raises:
            NoSuchModelError: no trial or several trials match.
        """
        rows = self.rows()
        return rows[rows["trial"] == self._trial_id(trial)].reset_index(drop=True)

    def best(
        self, *, trial: str | None = None, objective: str | None = None, metric: str | None = None
    ) -> Model:
        """Return the best corrected model.

        Args:
            trial: restricts the choice to one trial (see ``trial``).
            objective: restricts the choice to one objective.
            metric: column to select by, on held-out data, which makes its value optimistic; by
                default the denoising error on the validation split selects.

        Raises:
            NoSuchModelError: no model is complete, or the metric is unknown or has no direction.
        """
        if objective is not None:
            _check_text("objective", objective)
        table = self._contents.shown  # of a search: the trials that it selected
        models = trained(table.aggregated, objective)
        models = models[models["objective"] != BASE.name]  # it has no correction
        if objective is not None and models.empty:
            names = ", ".join(trained(table.aggregated)["objective"].unique())
            raise NoSuchModelError(
                f"{self.place}: no corrected model has the objective {objective!r}; there are "
                f"{names}"
            )
        if trial is not None:
            models = models[models["trial"] == self._trial_id(trial)]
        column = metric or SELECTION
        if column not in table.score_columns:
            raise NoSuchModelError(
                f"metric must be a score of this run, but got {column!r}; there are "
                f"{', '.join(table.score_columns)}"
            )
        better = column_spec(table.schema.field(column)).better if metric else "lower"
        if not better:
            raise NoSuchModelError(f"{column} has no better direction; choose another metric")
        values = models[column].astype(float)
        if values.isna().all():
            raise NoSuchModelError(f"{self.place}: no corrected model has a value of {column}")
        best = values.idxmax() if better == "higher" else values.idxmin()
        return Model(self, _with_weight(models).loc[best])

    def figure(
        self,
        name: str = "finding",
        *,
        width: str | float | None = None,
        font: str | None = None,
        font_size: float | None = None,
        where: str | Sequence[str] = (),
    ) -> Figure:
        """Draw a figure of the report; ``figure_names`` lists them.

        ``figure.savefig("NAME.pdf")`` keeps its fonts. ``dgray figure`` writes its numbers too.

        Args:
            name: name of the figure.
            width: inches, or a length such as ``"3.25in"``, ``"82mm"``; None: as in the report.
            font: font family, or path of a TrueType file.
            font_size: size of labels in points; default 8 with a width, else 9.
            where: conditions on the rows that are drawn, such as ``"width=64"``.

        Raises:
            FigureError: there is no such figure, font or width; the run lacks the numbers for it;
                or no row meets the conditions.
        """
        return self._request(name, width, font, font_size, where).figure

    def figure_data(
        self, name: str = "finding", *, where: str | Sequence[str] = ()
    ) -> pd.DataFrame:
        """Return the numbers that a figure draws; see ``figure``."""
        return self._request(name, None, None, None, where).data

    def _request(
        self,
        name: str,
        width: str | float | None,
        font: str | None,
        font_size: float | None,
        where: str | Sequence[str],
    ) -> Drawing:
        is_many = isinstance(where, Iterable) and not isinstance(where, str)
        conditions: tuple[str, ...] = (*where,) if is_many else (where,)  # type: ignore[assignment]
        for text in (name, *conditions, *([] if font is None else [font])):
            if not isinstance(text, str):
                raise FigureError(
                    "names of figures and fonts, and conditions, must be text, but got "
                    f"{one_line(repr(text), 60)}"
                )
        request = FigureRequest(name, style_of(width, font, font_size), conditions)
        return request.draw(self._contents.shown, self._contents.searches)

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Names of all figures; a run may lack the numbers for some."""
        return tuple(kind.name for kind in ALL_KINDS)

    def denoiser(self, **choice: Any) -> GuidedDenoiser:
        """Return the denoiser of the best model; arguments of ``best`` and ``Model.denoiser``."""
        best, arguments = self._chosen(choice)
        return best.denoiser(**arguments)

    def discriminator(self, **choice: Any) -> SampleDiscriminator:
        """Return the discriminator of the best model; arguments as of ``denoiser``."""
        best, arguments = self._chosen(choice)
        return best.discriminator(**arguments)

    def sample(self, n: int, **choice: Any) -> torch.Tensor:
        """Draw samples from the best model; arguments of ``best`` and ``Model.sample``."""
        best, arguments = self._chosen(choice)
        return best.sample(n, **arguments)

    def export(self, out: str | os.PathLike[str], **choice: Any) -> Path:
        """Write the best model to a folder; arguments of ``best`` and ``Model.export``."""
        best, arguments = self._chosen(choice)
        return best.export(out, **arguments)

    def _chosen(self, choice: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
        selecting = {n: v for n, v in choice.items() if n in ("trial", "objective", "metric")}
        rest = {n: v for n, v in choice.items() if n not in selecting}
        return self.best(**selecting), rest

    def _trial_id(self, trial: str) -> str:
        _check_text("trial", trial)
        trials = self.trials
        return find_trial(dict(zip(trials["trial"], trials["label"], strict=True)), trial)

    def __repr__(self) -> str:
        return f"<dgray.Run {self.place}>"

    def __str__(self) -> str:
        finding = self._contents.finding
        table = recorded(render_summary(finding.summary, finding.columns, _WIDTH)).export_text()
        return f"{self.finding}\n\n{table}"

    def _repr_html_(self) -> str:
        finding = self._contents.finding
        warnings = "".join(f"<p><b>incomplete run:</b> {text}</p>" for text in self.incomplete)
        return warnings + console_html(render_summary(finding.summary, finding.columns, _WIDTH))


def open_run(place: str | os.PathLike[str]) -> Run:
    """Open a run folder, or a run in an object store, for reading.

    Raises:
        NotARunError: the folder holds no run.
        NoRowsError: the run has no rows yet.
        StoreError: the store cannot be read.
    """
    run = Run(location(os.fspath(place)))
    run._contents  # noqa: B018  # a wrong folder is an error here, not at the first use
    return run


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise NoSuchModelError(f"{name} must be text, but got {one_line(repr(value), 60)}")


def _with_weight(rows: pd.DataFrame) -> pd.DataFrame:
    weights = [
        CALIBRATED if is_calibrated else "" if pd.isna(weight) else f"{weight:g}"
        for weight, is_calibrated in zip(
            rows["guidance_weight"], rows["is_calibrated"], strict=True
        )
    ]
    rows = rows.copy()
    rows.insert(rows.columns.get_loc("guidance_weight"), "weight", weights)
    return rows

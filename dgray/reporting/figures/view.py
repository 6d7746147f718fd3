"""Selection of the trials that a figure shows: one for each line, the other axes held fixed.

Every training axis of a study is shown in one of four ways: by series (axes that only some
objectives have), by shades of a colour (the capacity), by rows of panels, or it is held fixed at
one value, which the figure states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dgray.reporting.figures.conditions import conditions
from dgray.reporting.figures.looks import Color, Look, looks, shade
from dgray.reporting.legible import printable, shortened
from dgray.reporting.presentation import BASE, objective, objective_rank
from dgray.reporting.selection import NUM_REAL, OBJECTIVE, number, short, trained
from dgray.reporting.table import StudyTable

WIDEST = 3  # panels side by side whose text is still legible on the page
MAX_ROWS = 3  # facets, so that a figure fits a screen
_MAX_PANEL_ROWS = 4  # the same for facets whose panels need several rows
MAX_LINES = 12  # lines of one kind in a panel
MAX_SHADES = 5  # shades of a colour that can be distinguished
MAX_SERIES = 8
_CAPACITIES = ("discriminator.width", "discriminator.depth")
_LABEL = 60  # characters of a series or value


@dataclass(frozen=True)
class Line:
    """The rows of one trial in a panel, and how they are drawn."""

    label: str
    colour: Color
    marker: str
    models: pd.DataFrame


@dataclass(frozen=True)
class View:
    """Trials that a figure shows.

    Attributes:
        models: guided models of these trials, with the column ``series``.
        capacity: axis whose values are shades of a colour; None if there is none.
        facets: axes whose combinations are rows of panels.
        looks: look of each series of the study.
        names: unique name of each axis.
        notes: what is held fixed or left out.
    """

    models: pd.DataFrame
    capacity: str | None
    facets: tuple[str, ...]
    looks: Mapping[str, Look]
    names: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def held(self) -> str:
        """Fields that are held fixed or left out, for the title of the figure."""
        return ", ".join(self.notes)

    @property
    def series(self) -> list[str]:
        """Series that have models, in order of presentation."""
        present = set(self.models["series"])
        return [label for label in self.looks if label in present]

    def panels(self) -> list[tuple[str, pd.DataFrame]]:
        """Return the title and models of each row of panels."""
        if not self.facets:
            return [("", self.models)]
        names = [self.names[axis] for axis in self.facets]
        groups = self.models.groupby(list(self.facets), sort=True)
        return [(", ".join(map(_with_value, names, key)), group) for key, group in groups]

    def lines(self, models: pd.DataFrame, *columns: str) -> Iterator[Line]:
        """Yield one line for each trial of some models, lighter for smaller capacities.

        Args:
            models: models of this view.
            columns: those that are drawn; selecting rows of all takes most of the time.
        """
        capacity = [self.capacity] if self.capacity else []
        models = models[list(dict.fromkeys(["series", *capacity, *columns]))]
        sizes = sorted(self.models[self.capacity].unique()) if self.capacity else [None]
        for label in self.series:
            of_series = models[models["series"] == label]
            look = self.looks[label]
            for position, size in enumerate(sizes):
                group = of_series
                parts = [label]
                if size is not None:
                    group = of_series[of_series[self.capacity] == size]
                    parts.append(_with_value(self.names[str(self.capacity)], size))
                if len(group):
                    colour = shade(look.colour, position, len(sizes))
                    yield Line(", ".join(parts), colour, look.marker, group)


def rows_for(columns: int) -> int:
    """Return the number of facets for which ``columns`` panels each fit a figure."""
    return max(1, min(MAX_ROWS, _MAX_PANEL_ROWS // math.ceil(columns / WIDEST)))


def value_text(value: object) -> str:
    """Format the value of an axis for a figure; different values have different texts."""
    if isinstance(value, float) and not value.is_integer() and float(f"{value:g}") != value:
        return repr(float(value))
    text = printable(str(value)) if isinstance(value, str) else number(value)
    return shortened(text if text.strip() else repr(text), _LABEL)


def _with_value(name: str, value: object) -> str:
    return f"{name} {value_text(value)}"


def axis_names(axes: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted path, or the whole path if that part is not unique."""
    parts = [short(axis) for axis in axes]
    return {axis: short(axis) if parts.count(short(axis)) == 1 else axis for axis in axes}


def view(
    table: StudyTable,
    models: pd.DataFrame,
    *,
    rows: int = 1,
    shades: int = 1,
    free: tuple[str, ...] = (),
    among: pd.DataFrame | None = None,
    columns: Sequence[str] | None = None,
) -> View:
    """Select the trials of a figure so that each of its lines is one trial.

    Args:
        table: the study.
        models: guided models that have what the figure draws.
        rows: largest number of facets.
        shades: largest number of values of the capacity.
        free: axes that the figure itself shows.
        among: models that define which axes vary; default: all trained ones.
        columns: metrics of guided models that are shown; None: only what guidance cannot change.
    """
    among = trained(table.models) if among is None else among
    shown = _Selection(table, models, among, free).view(rows, shades)
    if columns is None:
        return shown
    return replace(shown, notes=(*shown.notes, *conditions(table, shown.models, columns)))


class _Selection:
    """Narrows models down, axis by axis, and notes what is held fixed."""

    def __init__(
        self,
        table: StudyTable,
        models: pd.DataFrame,
        among: pd.DataFrame,
        free: tuple[str, ...],
    ) -> None:
        self._names = axis_names(table.axes)
        self._free = free
        axes = [a for a in table.axes if a != OBJECTIVE and among[a].notna().any()]
        self._shared = [a for a in axes if among[a].notna().all() and a not in free]
        own = [a for a in axes if not among[a].notna().all() and a not in free]
        of_trial = _series(among, own, self._names)
        objectives = dict(zip(among["trial"], among["objective"], strict=True))
        self._objective_of = {label: objectives[trial] for trial, label in of_trial.items()}
        self._models = models.assign(series=models["trial"].map(of_trial))
        bases = table.models[table.models["objective"] == BASE.name]
        self._of_base = {a for a in axes if bases[a].notna().any()}
        self._notes: dict[str, str] = {}

    def view(self, rows: int, shades: int) -> View:
        self._limit_series()
        capacity = self._capacity()
        facets = self._facets(rows, without=capacity)
        if capacity is not None:
            sizes = sorted(self._models[capacity].unique())
            taken = min(shades, max(1, MAX_LINES // self._models["series"].nunique()))
            largest = self._fixed(capacity, largest=True)
            self._keep(capacity, spaced(sizes, taken) if taken > 1 else [largest])
            capacity = None if self._models[capacity].nunique() < 2 else capacity
        facets = [a for a in facets if self._models[a].nunique() > 1]
        self._keep_one_trial([*facets, *([capacity] if capacity else [])])
        return View(
            models=self._models,
            capacity=capacity,
            facets=tuple(facets),
            looks=looks([(name, label) for label, name in self._objective_of.items()]),
            names=self._names,
            notes=(*self._held([capacity, *facets]), *self._notes.values()),
        )

    def _varying(self) -> list[str]:
        return [axis for axis in self._shared if self._models[axis].nunique() > 1]

    def _facets(self, rows: int, *, without: str | None) -> list[str]:
        """Axes whose combinations fit ``rows``, few samples first; all others are held fixed."""
        axes = (axis for axis in self._varying() if axis != without)
        facets = []
        for axis in sorted(axes, key=lambda axis: (axis != NUM_REAL, axis)):
            taken = min(rows, self._models[axis].nunique())
            if taken > 1:
                rows //= taken
                self._keep(axis, spaced(sorted(self._models[axis].unique()), taken))
                facets.append(axis)
            else:
                self._keep(axis, [self._fixed(axis, largest=False)])
        return facets

    def _limit_series(self) -> None:
        """Keep at most ``MAX_SERIES`` series, spaced evenly over the settings of an objective."""
        names = [
            o
            for o in dict.fromkeys(self._objective_of.values())
            if (self._models["objective"] == o).any()
        ]
        most = max(1, MAX_SERIES // max(1, len(names)))
        kept: list[str] = []
        for name in names:
            of_objective = [s for s, o in self._objective_of.items() if o == name]
            present = [s for s in of_objective if (self._models["series"] == s).any()]
            kept += spaced(present, most)
            if len(present) > most:
                title = objective(name).title
                self._notes[name] = f"{most} of {len(present)} settings of {title}"
        self._models = self._models[self._models["series"].isin(kept)]

    def _capacity(self) -> str | None:
        """The axis of the size of the discriminator, or another number; not one of the base."""
        numeric = [
            axis
            for axis in self._varying()
            if pd.api.types.is_numeric_dtype(self._models[axis])
            and axis not in (NUM_REAL, *self._of_base)
        ]
        return next(iter([*(a for a in _CAPACITIES if a in numeric), *numeric]), None)

    def _fixed(self, axis: str, *, largest: bool) -> Any:
        """The value with most series, then most trials; of several the smallest or largest."""
        counts = self._models.groupby(axis)[["series", "trial"]].nunique()
        pairs = list(counts.itertuples(index=False, name=None))
        best = sorted(v for v, pair in zip(counts.index, pairs, strict=True) if pair == max(pairs))
        return best[-1] if largest else best[0]

    def _keep(self, axis: str, values: Sequence[Any]) -> None:
        total = self._models[axis].nunique()
        self._models = self._models[self._models[axis].isin(values)]
        if 1 < len(values) < total:
            self._notes[axis] = f"{len(values)} of {total} values of {self._names[axis]}"

    def _keep_one_trial(self, axes: Sequence[str]) -> None:
        """Keep the first trial of each line, should several have the same values on all axes."""
        if len(self._models):
            keys = ["series", *axes, *self._free]
            trials = self._models.groupby(keys, sort=False, dropna=False)["trial"]
            self._models = self._models[self._models["trial"] == trials.transform("first")]

    def _held(self, shown: Sequence[str | None]) -> Iterator[str]:
        for axis in self._shared:
            values = self._models[axis].unique()
            if axis not in shown and len(values) == 1:
                yield _with_value(self._names[axis], values[0])


def spaced(values: Sequence[Any], most: int) -> list[Any]:
    """Return at most ``most`` of some values, evenly spaced, the first and the last included."""
    if len(values) <= most:
        return list(values)
    places = np.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in dict.fromkeys(places)]


def _series(models: pd.DataFrame, axes: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Name of the series of each trial: its objective and the axes that only some trials have."""
    trials = models.drop_duplicates("trial")
    keys = [
        (name, *(None if pd.isna(value) else value for value in values))
        for name, *values in trials[["objective", *axes]].itertuples(index=False, name=None)
    ]
    titles = [objective(name).title for name in dict.fromkeys(name for name, *_ in keys)]
    labels: dict[tuple[Any, ...], str] = {}
    for key in sorted(set(keys), key=_rank):
        name, *values = key
        title = objective(name).title
        parts = [title if titles.count(title) == 1 else f"{title} ({name})"]
        parts += [
            _with_value(names[axis], value)
            for axis, value in zip(axes, values, strict=True)
            if value is not None
        ]
        label = shortened(", ".join(parts), _LABEL)
        labels[key] = f" {label}" if label.startswith("_") else label  # matplotlib hides "_..."
    of_trial = dict(zip(trials["trial"], keys, strict=True))
    ordered = sorted(of_trial, key=lambda trial: _rank(of_trial[trial]))
    return {trial: labels[of_trial[trial]] for trial in ordered}


def _rank(key: tuple[Any, ...]) -> tuple[Any, ...]:
    name, *values = key
    ranks = [(value is not None, 0 if value is None else value) for value in values]
    return (objective_rank(name), name, *ranks)

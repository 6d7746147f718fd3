"""Samples of the data, the base and guided models, where overfitting is strongest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dgray.catalogue import SETTING_COLUMNS
from dgray.reporting.figures.density import kernel_density, scatter_image
from dgray.reporting.figures.looks import Look
from dgray.reporting.figures.style import current_style, points
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    grid,
    hide_ticks,
    new_figure,
    side_by_side,
)
from dgray.reporting.figures.view import View, value_text, view
from dgray.reporting.presentation import BASE, DATA_COLOUR, PATH_KL, sampler_preference
from dgray.reporting.raster import image_grid
from dgray.reporting.selection import (
    OBJECTIVE,
    at_weight,
    calibrated,
    main_weight,
    of_controls,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable

_SHOWN = 2000  # points per panel
_DRAWN = 2  # coordinates of points that are drawn
_GRID = 180  # cells of a density per axis, even
_PIXELS = 330  # of the picture of points, per axis
_WIDEST = 8  # panels side by side
_PANEL = 2.2  # inches
_MAX_SAMPLERS = 3
_DATA, _TRAINING = "data", "training points"


@dataclass(frozen=True)
class SampleCloud:
    """Samples of one source.

    Attributes:
        points: shape (n, d).
        is_guided: False for the data and the base, whose range is the frame of all.
        shape: (C, H, W) of images.
    """

    title: str
    colour: str
    points: np.ndarray
    is_guided: bool = False
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Subject:
    """Guided trials whose samples are shown, with their titles and looks, and what is held."""

    titles: dict[str, str]
    looks: dict[str, Look]
    related: set[str]
    held: str


def clouds(table: StudyTable) -> Drawing | None:
    """Draw a row per sampler, a column per model: two coordinates, or a histogram if d = 1."""
    subject = _subject(table)
    rows = _by_sampler(table, subject)
    if not rows:
        return None
    first = next(cloud for shown in rows.values() for cloud in shown)
    is_image = first.shape is not None
    frame = "The same seeds in every model." if is_image else "All panels show the same range."
    is_histogram = not is_image and first.points.shape[1] == 1
    return drawing(
        _draw_rows(rows, _draw),
        "Samples",
        subject.held,
        f"{_contents(rows)} {frame}",
        "Line: the data." if is_histogram else "",
        _coordinates(first),
        _several_settings(table),
        data=_samples(rows),
        table=_moments(rows),
    )


def densities(table: StudyTable) -> Drawing | None:
    """Draw kernel density estimates of the samples on one colour scale, if d >= 2."""
    subject = _subject(table)
    rows = {
        sampler: [cloud for cloud in shown if cloud.title != _TRAINING]
        for sampler, shown in _by_sampler(table, subject).items()
    }
    everything = [cloud for shown in rows.values() for cloud in shown]
    is_drawn = everything and everything[0].shape is None
    if not is_drawn or everything[0].points.shape[1] < 2:
        return None
    has_data = any(cloud.title == _DATA for cloud in everything)
    return drawing(
        _draw_rows(rows, _draw_density),
        "Densities of the samples",
        subject.held,
        f"{_contents(rows)} Kernel density estimates, all on the colour scale of the "
        f"{_DATA if has_data else 'first panel'}. They show where a model is too wide, too "
        "narrow, or concentrated on filaments.",
        _coordinates(everything[0]),
        _several_settings(table),
        data=_samples(rows),
        table=_moments(rows),
    )


def _samples(rows: dict[str, list[SampleCloud]]) -> pd.DataFrame:
    """The samples that are drawn, a row each; of images only their numbers."""
    parts = []
    for names, cloud, drawn in _panels(rows):
        columns: dict[str, Any] = {f"x{i}": values for i, values in enumerate(drawn.T, 1)}
        if cloud.shape is not None:
            columns = {"image": range(len(drawn))}
        parts.append(pd.DataFrame(names | columns, index=range(len(drawn))))
    return pd.concat(parts, ignore_index=True)


def _panels(
    rows: dict[str, list[SampleCloud]],
) -> Iterator[tuple[dict[str, Any], SampleCloud, np.ndarray]]:
    """Yield title and sampler of each panel, its cloud, and the samples that are drawn."""
    for sampler, shown in rows.items():
        for cloud in shown:
            names = {"samples": cloud.title.replace("\n", ", "), "sampler": sampler}
            yield names, cloud, cloud.points[:_SHOWN]


def _moments(rows: dict[str, list[SampleCloud]]) -> pd.DataFrame:
    """Number, mean and std of the drawn coordinates of each panel; of images the number."""
    lines = []
    for names, cloud, drawn in _panels(rows):
        line = names | {"number": len(drawn)}
        if cloud.shape is None and len(drawn):  # no finite sample has no moments
            for index, values in enumerate(drawn.T[:_DRAWN], 1):
                line[f"mean of x{index}"] = round(float(values.mean()), 4)
                line[f"std of x{index}"] = round(float(values.std()), 4)
        lines.append(line)
    return pd.DataFrame(lines)


def points_of(row: pd.Series) -> np.ndarray:
    """Return the samples of a row of clouds, shape (n, d)."""
    return np.array([*row["points"]], float)


def _contents(rows: dict[str, list[SampleCloud]]) -> str:
    """A sentence on the panels."""
    shown = [cloud for row in rows.values() for cloud in row]
    parts = list(dict.fromkeys(c.title.split(",")[0] for c in shown if not c.is_guided))
    if any(cloud.is_guided for cloud in shown):
        parts.append("guided models at their last checkpoint")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _coordinates(cloud: SampleCloud) -> str:
    dimension = cloud.points.shape[1]
    if cloud.shape is not None or dimension < 3:
        return ""
    return f"The first two of {dimension} coordinates."


def _several_settings(table: StudyTable) -> str:
    """A sentence on studies with several settings per sampler and weight."""
    in_titles = ("sampler", "is_calibrated", "guidance_weight")
    names = [name for name in SETTING_COLUMNS if name not in in_titles]
    guided = table.rows[table.rows["objective"] != BASE.name]
    if not any(guided[name].nunique(dropna=False) > 1 for name in names):
        return ""
    return "Samples are those of the first number of steps, interval and stage of the study."


def _by_sampler(table: StudyTable, subject: Subject) -> dict[str, list[SampleCloud]]:
    """Data, training points, base and guided models per sampler, if there are samples."""
    if table.clouds.empty:
        return {}
    guided = _guided(table)
    guided = guided[guided["trial"].isin(set(subject.titles))]
    samplers = sorted(guided["sampler"].unique(), key=sampler_preference)[:_MAX_SAMPLERS]
    by_sampler = {s: list(_clouds(table, subject, s)) for s in samplers or ["ode"]}
    return {sampler: shown for sampler, shown in by_sampler.items() if shown}


def _draw_rows(
    rows: dict[str, list[SampleCloud]],
    draw: Callable[[Axes, SampleCloud, list[SampleCloud]], None],
) -> Figure:
    """Draw a panel per cloud, one or more lines of panels per sampler."""
    longest = max(len(shown) for shown in rows.values())
    widest = min(_WIDEST, side_by_side(_PANEL)) if current_style().width else _WIDEST
    columns = math.ceil(longest / math.ceil(longest / widest))
    lines = [
        (sampler, shown, shown[start : start + columns])
        for sampler, shown in rows.items()
        for start in range(0, len(shown), columns)
    ]
    figure = new_figure(len(lines), columns, width=_PANEL, height=2.4)
    for row, (sampler, shown, part) in zip(grid(figure, len(lines), columns), lines, strict=True):
        for panel, cloud in zip(row, part, strict=False):
            draw(panel, cloud, shown)
        for panel in row[len(part) :]:
            panel.set_axis_off()
        row[0].set_ylabel(f"sampler {sampler}")
    return figure


def _guided(table: StudyTable) -> pd.DataFrame:
    return table.clouds[table.clouds["source"] == "guided"]


def _subject(table: StudyTable) -> Subject:
    """One trial per series: of trained ones the hardest, of controls the most harmful ones."""
    models = table.models[table.models["trial"].isin(set(_guided(table)["trial"]))]
    of_trained, controls = trained(models), models[~models["trial"].isin(trained(models)["trial"])]
    if len(of_trained):
        shown = view(table, of_trained)
        chosen = shown.models.drop_duplicates("trial")
    elif len(controls):
        parameters = _parameters(table, controls)
        shown = view(table, controls, free=parameters, among=controls)
        chosen = _most_harmful(shown.models)
        names = [_with_values(shown, model, parameters) for _, model in chosen.iterrows()]
        chosen = chosen.assign(title=names)
    else:
        return Subject({}, {}, set(table.clouds["trial"]), "")
    titles = chosen["title"] if "title" in chosen else chosen["series"]
    return Subject(
        titles=dict(zip(chosen["trial"], titles, strict=True)),
        looks={row["trial"]: shown.looks[row["series"]] for _, row in chosen.iterrows()},
        related={*chosen["trial"], *chosen["base_trial"].dropna()},
        held=shown.held,
    )


def _parameters(table: StudyTable, controls: pd.DataFrame) -> tuple[str, ...]:
    """Axes of controls that their bases do not have."""
    bases = table.models[table.models["objective"] == BASE.name]
    axes = [axis for axis in table.axes if axis != OBJECTIVE and not bases[axis].notna().any()]
    return tuple(axis for axis in axes if controls[axis].notna().any())


def _most_harmful(models: pd.DataFrame) -> pd.DataFrame:
    """The model with the largest path KL of each control, exact controls first."""
    order = pd.concat([of_controls(models, has_options=x) for x in (False, True)])
    worst = [
        group[PATH_KL].idxmax() if group[PATH_KL].notna().any() else group.index[0]
        for _, group in order.groupby("objective", sort=False)
    ]
    return models.loc[worst]


def _with_values(shown: View, model: pd.Series, axes: Sequence[str]) -> str:
    values = [f"{shown.names[a]} {value_text(model[a])}" for a in axes if not pd.isna(model[a])]
    return ", ".join([str(model["series"]), *values])


def _clouds(table: StudyTable, subject: Subject, sampler: str) -> Iterator[SampleCloud]:
    sources = {_DATA: (_DATA, DATA_COLOUR), "real": (_TRAINING, DATA_COLOUR)}
    for source, (title, colour) in (sources | {BASE.name: (BASE.title, BASE.colour)}).items():
        rows = table.clouds[table.clouds["source"] == source]
        rows = rows[rows["trial"].isin(subject.related)]
        same = rows[rows["sampler"] == sampler]
        for _, row in (same if len(same) else rows).head(1).iterrows():
            is_other = row["sampler"] not in ("", sampler)
            name = f"{title}, sampler {row['sampler']}" if is_other else title
            yield _cloud(name, colour, row, is_guided=False)
    for trial, name in subject.titles.items():
        rows = _guided(table)
        rows = rows[(rows["trial"] == trial) & (rows["sampler"] == sampler)]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        for label, row in _at_weights(rows):
            yield _cloud(f"{name}\n{label}", subject.looks[trial].colour, row, is_guided=True)


def _cloud(title: str, colour: str, row: pd.Series, *, is_guided: bool) -> SampleCloud:
    """The finite samples of a row; the title states how many others there are."""
    points = points_of(row)
    is_finite = np.isfinite(points).all(axis=1)
    if not is_finite.all():
        title += f"\n{int((~is_finite).sum())} of {len(points)} samples diverged"
    return SampleCloud(title, colour, points[is_finite], is_guided, _shape(row))


def _at_weights(rows: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """The constant weight nearest to 1, and the calibrated one."""
    weight = main_weight(rows)
    constant = [] if weight is None else [(weight_text(weight), at_weight(rows, weight).iloc[0])]
    return constant + [("calibrated", row) for _, row in calibrated(rows).head(1).iterrows()]


def _shape(row: pd.Series) -> tuple[int, ...] | None:
    shape = row.get("shape")  # runs of older versions lack the column
    return None if shape is None else tuple(int(size) for size in shape)


def _draw(axes: Axes, cloud: SampleCloud, shown: list[SampleCloud]) -> None:
    axes.set_title(cloud.title, fontsize=points(9))
    if cloud.shape is not None:
        axes.imshow(image_grid(cloud.points, cloud.shape), interpolation="nearest")
        hide_ticks(axes)
        return
    low, high = _limits(shown)
    axes.set_xlim(low[0], high[0])
    if cloud.points.shape[1] == 1:
        reference = next((c for c in shown if c.title == _DATA), cloud)
        bins = np.linspace(low[0], high[0], 61).tolist()
        axes.hist(cloud.points[:, 0], bins, density=True, color=cloud.colour, alpha=0.75)
        if cloud is not reference:
            axes.hist(
                reference.points[:, 0], bins, density=True, color=DATA_COLOUR, histtype="step"
            )
        axes.set_yticks([])
        return
    picture = scatter_image(cloud.points[:_SHOWN, :2], low, high, _PIXELS, cloud.colour)
    _fill(axes, picture, low, high, interpolation="none", zorder=3)  # above the grid


def _fill(
    axes: Axes, picture: np.ndarray, low: np.ndarray, high: np.ndarray, **options: Any
) -> None:
    """Draw a picture over the frame from ``low`` to ``high``, without labels at the ticks."""
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(picture, extent=extent, origin="lower", **options)
    axes.tick_params(labelbottom=False, labelleft=False, length=0)


def _draw_density(axes: Axes, cloud: SampleCloud, shown: list[SampleCloud]) -> None:
    """Draw the density of samples, on the colour scale of the data."""
    low, high = _limits(shown)
    reference = next((c for c in shown if c.title == _DATA), cloud)
    peak = float(kernel_density(reference.points[:, :2], low, high, _GRID).max()) or 1.0
    axes.set_title(cloud.title, fontsize=points(9))
    density = kernel_density(cloud.points[:, :2], low, high, _GRID)
    norm = PowerNorm(0.5, vmin=0, vmax=peak)
    _fill(axes, density, low, high, cmap="magma_r", norm=norm, interpolation="bilinear")
    axes.grid(visible=False)


def _limits(shown: list[SampleCloud]) -> tuple[np.ndarray, np.ndarray]:
    """The frame of all panels: that of data and base, so that an outlier hides nothing."""
    unguided = [cloud.points for cloud in shown if not cloud.is_guided and len(cloud.points)]
    points = np.concatenate(unguided or [cloud.points for cloud in shown])[:, :2]
    points = points if len(points) else np.zeros((1, points.shape[1]))
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    return low - margin, high + margin

"""Generalisation gap over noise level and epoch, beside the noise levels of the samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter
from scipy.special import stdtr

from dgray.reporting.figures.data import middles, numbers_by_noise
from dgray.reporting.figures.looks import CHANGE, shade
from dgray.reporting.figures.map import change_norm
from dgray.reporting.figures.style import points
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    legend_below,
    log_scale,
    plain_number,
    title,
    wrapped_grid,
)
from dgray.reporting.figures.view import MAX_SHADES, rows_for, view
from dgray.reporting.presentation import DATA_COLOUR, sampler_rank
from dgray.reporting.selection import number, trained
from dgray.reporting.table import StudyTable, per_table

_TRAIN, _HELD_OUT, _CALLS = "loss_train_bins", "loss_held_out_bins", "sample_calls_bins"
_LEVEL = 0.05  # of the test of overfitting in a bin
_MIN_REPLICATES = 3  # of that test
_MAX_EPOCHS = 12  # ticks of a panel


def gap_map(table: StudyTable) -> Drawing | None:
    """Draw held-out minus training loss, a panel per trial with a row per checkpoint."""
    models = _with_gaps(table)
    if models.empty:
        return None
    series = view(table, models).series
    shown = view(table, models, rows=rows_for(len(series)))
    panels = shown.panels()
    figure, axes = wrapped_grid(len(panels), len(series), width=4.2, height=3.4)
    norm = change_norm(np.concatenate(shown.models["gap"].tolist()))
    strips, has_contour = [], False
    onset: dict[str, np.ndarray] = {}
    for row, (facet_name, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, series, strict=True):
            of_trial = facet[facet["series"] == name].sort_values("epoch")
            if of_trial.empty:  # this facet lacks the series
                panel.set_axis_off()
                continue
            has_contour |= _panel(panel, of_trial, norm)
            onset[of_trial["trial"].iloc[0]] = _onsets(panel, table, of_trial)
            if (strip := _strip(panel, table, of_trial)) is not None:
                strips.append(strip)
            title(strip or panel, name, facet_name)
    bar = figure.colorbar(ScalarMappable(norm, CHANGE), ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("nats")
    bar.formatter = FuncFormatter(plain_number)
    bar.update_ticks()
    legend_below(figure, np.array([*strips, *axes.flat], object))
    return drawing(
        figure,
        "Held-out minus training loss by noise level and epoch",
        shown.held,
        "Each panel is one trial, each of its rows a checkpoint. Crimson: the loss is higher on "
        "held-out than on training data, as where the model overfits. Green: it is lower. "
        "A gap that all checkpoints have is that between the two sets of samples.",
        "Line: gap of zero." if has_contour else "",
        "Dots: checkpoint with the lowest held-out loss of a bin, in the mean over replicates, "
        "from which the loss rises significantly to the last checkpoint (paired t-test, one-sided "
        f"at {100 * _LEVEL:g} % in each bin, with Bonferroni's correction for the choice of the "
        "checkpoint); bars: the first and the last such checkpoint of a replicate."
        if any(np.isfinite(epochs).any() for epochs in onset.values())
        else "",
        "Above each panel: denoiser calls of one sample in each bin." if strips else "",
        data=_numbers(table, shown.models, onset),
    )


def _with_gaps(table: StudyTable) -> pd.DataFrame:
    """Trained models, one per checkpoint, with ``gap`` and ``gap_se``: arrays by bin.

    Without trials of one checkpoint or one bin.
    """
    models = trained(table.models).drop_duplicates(["trial", "epoch"])
    gaps = {key: held_out - train for key, (train, held_out) in _losses(table).items()}
    keys = list(zip(models["trial"], models["epoch"], strict=True))
    models = models.assign(
        gap=pd.Series([_mean(gaps.get(key)) for key in keys], models.index, object),
        gap_se=pd.Series([_error(gaps.get(key)) for key in keys], models.index, object),
    )
    models = models[models["gap"].notna() & models["sigma_edges"].notna()]
    return models[models.groupby("trial")["epoch"].transform("nunique") > 1]


@per_table
def _losses(table: StudyTable) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """Training and held-out loss of every replicate, (R, B) each, by trial and epoch."""
    rows = table.rows[(table.rows["status"] == "ok") & table.rows[_TRAIN].notna()]
    rows = rows[rows[_HELD_OUT].notna()].drop_duplicates(["trial", "epoch", "replicate"])
    losses = {}
    for key, group in rows.sort_values("replicate").groupby(["trial", "epoch"], sort=False):
        train, held_out = (group[name].tolist() for name in (_TRAIN, _HELD_OUT))
        sizes = {len(values) for values in (*train, *held_out)}
        if len(sizes) == 1 and sizes != {1}:
            losses[key] = (np.array(train, float), np.array(held_out, float))
    return losses


def _mean(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.mean(0)


def _error(values: np.ndarray | None) -> np.ndarray | None:
    if values is None or len(values) < 2:
        return None
    error: np.ndarray = values.std(0, ddof=1) / math.sqrt(len(values))
    return error


def _panel(axes: Axes, models: pd.DataFrame, norm: Normalize) -> bool:
    """Draw the gaps of a trial; return whether they have both signs."""
    edges = np.asarray(models["sigma_edges"].iloc[0], float)
    gaps = np.ma.masked_invalid(np.array(models["gap"].tolist()))
    rows = np.arange(len(models))
    axes.pcolormesh(edges, np.arange(len(models) + 1) - 0.5, gaps, norm=norm, cmap=CHANGE)
    has_both = bool((gaps > 0).any() and (gaps < 0).any())
    if has_both:
        axes.contour(middles(edges), rows, gaps, levels=[0.0], colors=DATA_COLOUR, linewidths=0.9)
    every = math.ceil(len(models) / _MAX_EPOCHS)
    axes.set_yticks(rows[::every], [number(epoch) for epoch in models["epoch"].iloc[::every]])
    log_scale(axes, "x")
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(visible=False)
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel("epochs")
    return has_both


def _onsets(axes: Axes, table: StudyTable, models: pd.DataFrame) -> np.ndarray:
    """Draw the onset of overfitting in each bin; return the epochs, (B,), nan without one."""
    losses = _losses(table)
    trial, epochs = models["trial"].iloc[0], models["epoch"].to_numpy(float)
    held_out = [losses[trial, epoch][1] for epoch in models["epoch"]]
    count, bins = held_out[0].shape
    if count < _MIN_REPLICATES or {values.shape for values in held_out} != {(count, bins)}:
        return np.full(bins, np.nan)
    place, lowest, highest = onsets(np.stack(held_out))
    is_shown = np.isfinite(place)
    if is_shown.any():
        middle = middles(models["sigma_edges"].iloc[0])[is_shown]
        ends = lowest[is_shown], highest[is_shown]
        axes.vlines(middle, *ends, color=DATA_COLOUR, linewidth=points(0.9))
        look: Any = {"color": DATA_COLOUR, "markersize": 4, "label": "onset of overfitting"}
        axes.plot(middle, place[is_shown], "o", **look)
    onset: np.ndarray = np.append(epochs, np.nan)[np.where(is_shown, place, -1).astype(int)]
    return onset


def onsets(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the checkpoints from which held-out losses rise significantly to the last one.

    Args:
        losses: of each checkpoint, replicate and bin, shape (E, R, B).

    Returns:
        For each bin, (B,): the checkpoint with the lowest mean, nan if the loss does not rise;
        and the lowest and the highest such checkpoint of a replicate.
    """
    count = losses.shape[1]
    place = losses.mean(1).argmin(0)
    rise = losses[-1] - np.take_along_axis(losses, place[None, None], 0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = rise.mean(0) / (rise.std(0, ddof=1) / math.sqrt(count))
    is_rise = (len(losses) - 1) * stdtr(count - 1, -t) < _LEVEL  # False for nan
    own = losses.argmin(0)
    return np.where(is_rise, place, np.nan), own.min(0), own.max(0)


def _strip(axes: Axes, table: StudyTable, models: pd.DataFrame) -> Axes | None:
    """Draw the denoiser calls of each sampler above a panel; None if they are unknown."""
    calls = _calls(table, models["trial"].iloc[0])
    if not calls:
        return None
    strip: Axes = axes.inset_axes((0.0, 1.03, 1.0, 0.2))
    edges = np.asarray(models["sigma_edges"].iloc[0], float)
    for index, (name, values) in enumerate(calls.items()):
        colour = shade(DATA_COLOUR, index, len(calls))
        style = ("-", "--", ":", "-.")[index % 4]
        strip.stairs(values, edges, color=colour, linestyle=style, label=name)
    strip.set_xscale("log")
    strip.set_xlim(axes.get_xlim())
    strip.set_ylim(0, None)
    strip.tick_params(axis="x", which="both", labelbottom=False)
    strip.set_ylabel("calls")
    strip.grid(visible=False)
    return strip


def _calls(table: StudyTable, trial: str) -> dict[str, np.ndarray]:
    """Return the denoiser calls of a sample by bin of each sampler, if they are known."""
    lines = table.aggregated[table.aggregated["trial"] == trial]
    lines = lines[lines[_CALLS].notna()].drop_duplicates(["sampler", "num_steps"])
    lines = lines.sort_values("sampler", key=lambda names: names.map(sampler_rank), kind="stable")
    return {
        f"calls of {line['sampler']}, {line['num_steps']} steps": np.asarray(line[_CALLS], float)
        for _, line in lines.head(MAX_SHADES).iterrows()
    }


def _numbers(
    table: StudyTable, models: pd.DataFrame, onset: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Gaps by bin, the onset of overfitting of the bin, and the calls of each sampler in it."""
    drawn = {trial: _calls(table, trial) for trial in onset}
    names = dict.fromkeys(name for calls in drawn.values() for name in calls)
    columns = {"onset": onset} | {
        name: {t: calls.get(name, np.full(len(onset[t]), np.nan)) for t, calls in drawn.items()}
        for name in names
    }
    if not any(np.isfinite(values).any() for values in onset.values()):
        del columns["onset"]
    models = models.assign(**{n: models["trial"].map(values) for n, values in columns.items()})
    return numbers_by_noise(table, models, ["gap", *columns], settings=False)

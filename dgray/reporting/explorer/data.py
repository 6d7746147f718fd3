"""The data of the interactive page: guided models, their metrics and replicates, in columns.

Everything that users named is a value, never a field name, so that no text of a user is code for
the plotting library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgray.catalogue import SETTING_COLUMNS, SOURCES
from dgray.reporting.aggregate import model_keys, setting_keys
from dgray.reporting.comparisons import LEVEL, Comparisons
from dgray.reporting.explorer.extent import bounded
from dgray.reporting.explorer.headline import headline, json_number, setting_text
from dgray.reporting.explorer.samples import packed_samples
from dgray.reporting.figures.looks import looks
from dgray.reporting.figures.view import axis_names, value_text
from dgray.reporting.legible import printable
from dgray.reporting.presentation import (
    BASE,
    column_spec,
    depends_on_sampler,
    distances,
    divergences,
    metrics,
    objective,
    sampler_preference,
)
from dgray.reporting.selection import NUM_REAL, OBJECTIVE
from dgray.reporting.table import StudyTable

_INTERVAL = ("interval_low", "interval_high", "guided_stage")
_MAX_REPLICATE_VALUES = 300_000  # about 2 MB
LENSES: dict[str, str] = dict(SOURCES) | {"discriminator": "discriminator and fit"}
_BY_NOISE = {  # columns of lists -> title, unit
    "score_error_bins": ("score error", "E|sigma × score error|²"),
    "path_kl_change_bins": ("change of the path KL", "nats per bin"),
    "calibrated_weights": ("calibrated weight", "w(sigma)"),
    "loss_held_out_bins": ("held-out loss", "nats"),
    "loss_train_bins": ("training loss", "nats"),
}


def explorer_data(
    table: StudyTable, shown: StudyTable, comparisons: Comparisons
) -> dict[str, Any]:
    """Return the data of the page for JSON.

    Args:
        table: all rows of the study.
        shown: those that figures show: of a study with searches, those of the selected points.
        comparisons: tests of the guided models; significant differences are marked.

    Returns:
        The data, with the number of trials that are left out, as they are too many for a page.
    """
    is_search = table is not shown
    table, left_out = bounded(table, shown, tuple(_BY_NOISE))
    rows = table.aggregated
    index = {trial: i for i, trial in enumerate(table.rows["trial"].unique())}
    return {
        "leftOut": left_out,
        "objectives": _objectives(table),
        "axes": _axes(table),
        "trials": _trials(table, index),
        "rows": _rows(rows, index),
        "metrics": _metrics(table, comparisons),
        "lenses": LENSES,
        "noise": _by_noise(rows),
        "samples": packed_samples(table, index),
        "headline": headline(shown, index),
        "level": LEVEL,
        "search": is_search,
    }


def _objectives(table: StudyTable) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(table.rows["objective"]))
    styles = looks([(name, name) for name in names])
    titles = [objective(name).title for name in names]
    return [
        {
            "name": printable(name),
            "title": printable(title if titles.count(title) == 1 else f"{title} ({name})"),
            "colour": styles[name].colour,
            "isBase": name == BASE.name,
            "isTrained": objective(name).is_trained,
        }
        for name, title in zip(names, titles, strict=True)
    ]


def _axes(table: StudyTable) -> list[dict[str, Any]]:
    """Axes of training other than the objective, with their values in order."""
    names = axis_names(table.axes)
    axes = []
    for path in _paths(table):
        values = sorted(table.rows[path].dropna().unique())
        is_number = pd.api.types.is_numeric_dtype(table.rows[path])
        axes.append(
            {
                "name": printable(names[path]),
                "path": printable(path),
                "values": _texts(values),
                "numbers": [json_number(value) for value in values] if is_number else None,
                "isData": path == NUM_REAL,
            }
        )
    return axes


def _texts(values: Sequence[Any]) -> list[str]:
    """Texts of the values of an axis, numbers to four digits if these differ."""
    short = [f"{v:.4g}" if isinstance(v, float) else value_text(v) for v in values]
    return short if len(set(short)) == len(short) else [value_text(v) for v in values]


def _paths(table: StudyTable) -> list[str]:
    return [path for path in table.axes if path != OBJECTIVE]


def _trials(table: StudyTable, index: Mapping[str, int]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(table.rows["objective"]))
    values = {path: sorted(table.rows[path].dropna().unique()) for path in _paths(table)}
    bases = dict(zip(table.models["trial"], table.models["base_trial"], strict=True))
    lines = table.rows.drop_duplicates("trial")
    return [
        {
            "id": printable(str(row["trial"])),
            "label": printable(str(row["label"])),
            "objective": names.index(row["objective"]),
            "values": [
                None if pd.isna(row[path]) else values[path].index(row[path]) for path in values
            ],
            "base": index.get(bases.get(row["trial"], "")),
        }
        for _, row in lines.iterrows()
    ]


def _rows(rows: pd.DataFrame, index: Mapping[str, int]) -> dict[str, Any]:
    """Identity of the rows of ``StudyTable.aggregated``."""
    samplers = [f"{s} {n}" for s, n in zip(rows["sampler"], rows["num_steps"], strict=True)]
    settings = rows[[*_INTERVAL]].drop_duplicates()
    texts = {
        key: setting_text(setting)
        for key, (_, setting) in zip(_keys(settings), settings.iterrows(), strict=True)
    }
    return {
        "trial": [index[trial] for trial in rows["trial"]],
        "epoch": [int(epoch) for epoch in rows["epoch"]],
        "weight": [json_number(w) for w in rows["guidance_weight"]],
        "sampler": samplers,
        "setting": [texts[key] for key in _keys(rows)],
        "n": [int(n) for n in rows["replicates"]],
    }


def _keys(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    return setting_keys(rows, _INTERVAL)


def _metrics(table: StudyTable, comparisons: Comparisons) -> list[dict[str, Any]]:
    rows = table.aggregated
    replicates = _replicate_values(table)
    signs = _signs(rows, comparisons)
    result = []
    for name in table.score_columns:
        if not rows[name].notna().any():
            continue
        spec = column_spec(table.schema.field(name))
        level = name.removesuffix("_change")
        errors = rows.get(f"{name}_se")
        metadata = table.schema.field(name).metadata or {}
        result.append(
            {
                "name": name,
                "title": printable(spec.title),
                "unit": printable(spec.unit),
                "doc": printable(metadata.get(b"doc", b"").decode()),
                "better": spec.better,
                "lens": _lens(name),
                "level": level,
                "isChange": name != level,
                "isDistance": level in divergences() or level in distances(),
                "samplers": _samplers(rows, name),
                "value": _numbers(rows[name]),
                "error": None if errors is None else _numbers(errors),
                "sign": signs.get(level),
                "replicates": replicates.get(name),
            }
        )
    return result


def _lens(name: str) -> str:
    for metric in metrics():
        if name in {metric.name, *(column.name for column in metric.columns)}:
            return str(metric.source)
    return "discriminator"


def _samplers(rows: pd.DataFrame, name: str) -> list[str] | None:
    """Samplers that have a metric, preferred ones first; None if it depends on none."""
    if not depends_on_sampler(name):
        return None
    own = rows[rows[name].notna()]
    pairs = set(zip(own["sampler"], own["num_steps"], strict=True))
    return [f"{s} {n}" for s, n in sorted(pairs, key=lambda p: (sampler_preference(p[0]), -p[1]))]


def _replicate_values(table: StudyTable) -> dict[str, list[list[Any]]]:
    """Values of all replicates by metric and row; empty if there are too many."""
    ok = table.rows[table.rows["status"] == "ok"]
    names = [name for name in table.score_columns if ok[name].notna().any()]
    if ok["replicate"].nunique() < 2 or len(ok) * len(names) > _MAX_REPLICATE_VALUES:
        return {}
    keys = ["trial", "epoch", *SETTING_COLUMNS]
    group = ok.sort_values("replicate", kind="stable").groupby(keys, dropna=False, sort=False)
    lists = group[names].agg(list).reindex(table.aggregated.set_index(keys).index)
    return {name: [_numbers(values) for values in lists[name]] for name in names}


def _signs(rows: pd.DataFrame, comparisons: Comparisons) -> dict[str, list[int]]:
    """Significant changes against the base by metric: 1 rise, -1 fall, else 0, for each row."""
    by_metric: dict[str, dict[Any, int]] = {}
    for comparison in comparisons.with_base:
        signs = by_metric.setdefault(comparison.metric, {})
        signs[comparison.key] = comparison.sign
    keys = model_keys(rows)
    return {metric: [signs.get(key, 0) for key in keys] for metric, signs in by_metric.items()}


def _by_noise(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Columns of lists over noise levels, of one row of each guided model."""
    keys = pd.Series(model_keys(rows), rows.index)
    places = dict(zip(rows.index, range(len(rows)), strict=True))
    result = []
    for name, (title, unit) in _BY_NOISE.items():
        edges = "calibrated_sigmas" if name == "calibrated_weights" else "sigma_edges"
        if name not in rows or edges not in rows:
            continue
        own = rows[rows[name].notna() & rows[edges].notna()]
        own = own[~keys[own.index].duplicated()]
        if own.empty:
            continue
        errors = own.get(f"{name}_se", [None] * len(own))
        lines = zip(own.index, own[edges], own[name], errors, strict=True)
        result.append(
            {
                "name": name,
                "title": title,
                "unit": unit,
                "lines": {
                    places[i]: {
                        "x": _numbers(_centres(sigmas, len(values))),
                        "y": _numbers(values),
                        "e": _optional(error),
                    }
                    for i, sigmas, values, error in lines
                },
            }
        )
    return result


def _centres(edges: Sequence[float], count: int) -> np.ndarray:
    """Noise levels of ``count`` values: the knots themselves, or geometric middles of bins."""
    values = np.asarray(edges, float)
    return values if len(values) == count else np.sqrt(values[:-1] * values[1:])


def _optional(values: Any) -> list[Any] | None:
    return None if values is None or np.ndim(values) == 0 else _numbers(values)


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [json_number(value) for value in np.asarray(values, float).tolist()]

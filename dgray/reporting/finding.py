"""The finding in words: sentences computed from the table, also the unflattering ones.

A difference counts when it exceeds three standard errors; a sentence whose numbers are missing is left
out. Knows ``StudyTable`` only, so that terminal and page print the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from dgray.reporting.summary import (
    Estimate,
    SummaryRow,
    best,
    estimate,
    selection_rule,
    summary,
    worst,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.views import TRAINED, at_weight, base_of, main_weight, plain, trained, words

Tone = Literal["harm", "gain", "neutral", "caution"]
THRESHOLD = 3.0  # standard errors: a difference below counts as none
NAMES = {"cross_entropy": "Cross-entropy", "kl": "The KL objective", "mixed": "The mixed objective"}
LENSES = {
    "path_kl": "path KL",
    "kl": "KL of the probability-flow ODE",
    "kl_sde": "KL of the SDE sampler",
}


@dataclass(frozen=True)
class Statement:
    """One sentence; ``tone`` colours it."""

    topic: str
    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Finding:
    """What a study found."""

    statements: tuple[Statement, ...]
    summary: tuple[SummaryRow, ...]
    selection: str


def finding(table: StudyTable) -> Finding:
    """All sentences that the numbers allow, in reading order."""
    sentences = [
        *_bases(table),
        *_harm(table),
        *_counts(table),
        *_comparison(table),
        *_calibrated(table),
        *_controls(table),
        *_lenses(table),
        *_reservations(table),
    ]
    return Finding(tuple(sentences), summary(table), selection_rule(table))


def change(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Change against the base in nats and in standard errors, where it is known."""
    value = cells[f"{metric}_change"].astype(float)
    error = cells[f"{metric}_change_se"].astype(float)
    known = cells[value.notna()].assign(change=value, change_se=error)
    return known.assign(in_errors=_ratio(known["change"], known["change_se"]))


def _ratio(value: pd.Series, error: pd.Series) -> pd.Series:
    """value / error; without an error any difference is beyond doubt, none is none."""
    certain = np.sign(value) * np.inf
    return (value / error.where(error > 0)).where(error > 0, certain.where(value != 0, 0.0))


def _at_main_weight(table: StudyTable) -> tuple[pd.DataFrame, str]:
    cells = plain(table.cells)
    weight = main_weight(cells)
    return at_weight(cells, weight), "calibrated weight" if weight is None else f"w = {weight:g}"


def _bases(table: StudyTable) -> Iterator[Statement]:
    bases = table.cells[table.cells["objective"] == "base"]
    for _, base in bases.iterrows():
        values = [(name, estimate(base, metric)) for metric, name in LENSES.items()]
        told = [f"{value} nats in {name}" for name, value in values if value]
        which = f" ({base['label']})" if len(bases) > 1 else ""
        if told:
            yield Statement("base", f"The unguided base{which} is off by {_listed(told)}.")


def _harm(table: StudyTable) -> Iterator[Statement]:
    for objective in ("cross_entropy", "kl"):
        for metric, name in LENSES.items():
            cell = worst(table, objective, metric)
            if cell is None or pd.isna(cell[f"{metric}_change"]):
                continue
            yield _worst_sentence(table, cell, metric, name)


def _worst_sentence(table: StudyTable, cell: pd.Series, metric: str, name: str) -> Statement:
    row = change(cell.to_frame().T, metric).iloc[0]
    errors = float(row["in_errors"])
    value, by = estimate(cell, metric), Estimate(row["change"], row["change_se"])
    base = base_of(table, cell.to_frame().T)
    from_base = f", base {estimate(base, metric)}" if base is not None else ""
    where = words(cell, table.axes)
    subject = NAMES[cell["objective"]]
    topic = f"{cell['objective']} at its worst"
    if errors > THRESHOLD:
        text = (
            f"{subject} raises the {name} most at {where}: to {value} nats{from_base}. "
            f"That is {by} above the base, {_errors(errors)}."
        )
        return Statement(topic, text, "harm")
    sense = "no higher than" if errors > -THRESHOLD else "still below"
    text = (
        f"{subject} raises the {name} nowhere beyond {THRESHOLD:g} standard errors: even at its "
        f"worst ({where}) it is {sense} the base, at {value} nats{from_base} ({_errors(errors)})."
    )
    return Statement(topic, text, "gain" if errors < -THRESHOLD else "neutral")


def _counts(table: StudyTable) -> Iterator[Statement]:
    cells, weight = _at_main_weight(table)
    for objective in TRAINED:
        for metric in ("path_kl", "kl"):
            known = change(trained(cells, objective), metric)
            if known.empty:
                continue
            up = int((known["in_errors"] > THRESHOLD).sum())
            down = int((known["in_errors"] < -THRESHOLD).sum())
            yield Statement(
                "how often",
                f"{NAMES[objective]} at {weight} raises the {LENSES[metric]} in {up} of "
                f"{len(known)} cells and lowers it in {down} (beyond {THRESHOLD:g} standard errors).",
                "harm" if up > down else "gain" if up == 0 and down else "neutral",
            )


def _comparison(table: StudyTable) -> Iterator[Statement]:
    found = {name: best(table, name) for name in ("cross_entropy", "kl")}
    ours, theirs = found["kl"], found["cross_entropy"]
    if ours is None or theirs is None:
        return
    for metric, name in LENSES.items():
        a, b = estimate(ours[0], metric), estimate(theirs[0], metric)
        if a is None or b is None:
            continue
        gap = Estimate(a.value - b.value, float(np.hypot(a.error, b.error)))
        sense = "below" if gap.value < 0 else "above"
        clear = abs(gap.in_errors) > THRESHOLD
        text = (
            f"The best KL-objective setting ({words(ours[0], table.axes)}) has {name} {a}, "
            f"{sense} the best cross-entropy one ({words(theirs[0], table.axes)}) with {b}"
        )
        tone: Tone = ("gain" if gap.value < 0 else "caution") if clear else "neutral"
        doubt = "" if clear else f", but not beyond {THRESHOLD:g} standard errors"
        yield Statement("best against best", f"{text}{doubt}.", tone)


def _calibrated(table: StudyTable) -> Iterator[Statement]:
    cells = trained(table.cells)
    known = change(cells[cells["is_calibrated"].astype(bool)], "path_kl")
    if known.empty:
        return
    highest = known.loc[known["change"].idxmax()]
    surest = known.loc[known["in_errors"].idxmax()]
    above = int((known["in_errors"] > THRESHOLD).sum())
    verdict = (
        f"is above the base beyond {THRESHOLD:g} standard errors in {above} of {len(known)} cells"
        if above
        else f"is above the base beyond noise in none of {len(known)} cells"
    )
    by = Estimate(highest["change"], highest["change_se"])
    text = (
        f"Calibrated guidance {verdict} (path KL). Its largest change is {by} nats, at "
        f"{highest['objective']}, {words(highest, table.axes)}; in standard errors the largest is "
        f"{surest['in_errors']:+.1f}."
    )
    yield Statement("calibrated", text, "harm" if above else "gain")


def _controls(table: StudyTable) -> Iterator[Statement]:
    cells, weight = _at_main_weight(table)
    for _, cell in cells[cells["objective"] == "oracle"].head(1).iterrows():
        told = [f"{name} {v}" for m, name in LENSES.items() if (v := estimate(cell, m))]
        if told:
            text = f"The oracle (exact log-ratio) at {weight} reaches {_listed(told)} nats."
            yield Statement("controls", text)
    shaken = cells[(cells["objective"] == "oscillating") & cells["path_kl_change"].notna()]
    if shaken.empty:
        return
    cell = shaken.loc[shaken["path_kl_change"].idxmax()]
    told = [f"{name} {v}" for m, name in LENSES.items() if (v := estimate(cell, m))]
    gap = estimate(cell, "cross_entropy_gap")
    near = f" has a cross-entropy only {gap} nats above the optimum, yet" if gap else ""
    name = ", ".join(part for part in (cell["label"], weight) if part)
    harmful = change(cell.to_frame().T, "path_kl").iloc[0]["in_errors"] > THRESHOLD
    yield Statement(
        "controls",
        f"The control {name}{near} gives {_listed(told)} nats.",
        "harm" if harmful else "neutral",
    )


def _lenses(table: StudyTable) -> Iterator[Statement]:
    cells, weight = _at_main_weight(table)
    guided = cells[cells["objective"] != "base"]
    for metric, name in (("kl_sde", LENSES["kl_sde"]), ("path_kl", LENSES["path_kl"])):
        harmed = change(guided, "kl")
        harmed = change(harmed[harmed["in_errors"] > THRESHOLD], metric)
        if harmed.empty:
            continue
        not_seen = int((harmed["in_errors"] <= THRESHOLD).sum())
        text = (
            f"Of the {len(harmed)} cells at {weight} where the {LENSES['kl']} rises beyond "
            f"{THRESHOLD:g} standard errors, the {name} does not rise so in {not_seen}"
        )
        end = ": the lenses disagree there." if not_seen else ": here the lenses agree."
        yield Statement("lenses", text + end, "caution" if not_seen else "neutral")


def _reservations(table: StudyTable) -> Iterator[Statement]:
    ok = table.rows[table.rows["status"] == "ok"]
    missed = int((ok["kl_unconverged"].fillna(0) > 0).sum())
    if missed:
        text = (
            f"In {missed} of {int(ok['kl'].notna().sum())} rows with a kl, the integration missed "
            f"its tolerance for some held-out points (column kl_unconverged): kl is suspect there."
        )
        yield Statement("reservations", text, "caution")
    failed = table.failures
    if len(failed):
        text = f"{len(failed)} trials failed and are missing from every number: see their reasons."
        yield Statement("reservations", text, "caution")


def _errors(count: float) -> str:
    if not np.isfinite(count):
        return "with no measurable error"
    return f"{count:+.1f} standard errors"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

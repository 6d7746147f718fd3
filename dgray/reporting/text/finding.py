"""The finding in words: sentences computed from the table, also the unflattering ones.

A difference counts when it exceeds three standard errors; a sentence whose numbers are missing is
left out. Knows ``StudyTable`` only, so that terminal and page print the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgray.reporting.table import StudyTable
from dgray.reporting.text.reservations import reservations
from dgray.reporting.text.statement import (
    NAMES,
    THRESHOLD,
    Statement,
    Tone,
    change,
    counted,
    errors_in_words,
    is_suspect,
    listed,
)
from dgray.reporting.text.summary import (
    Estimate,
    SummaryRow,
    best,
    estimate,
    selection_rule,
    summary,
)
from dgray.reporting.views import (
    LENSES,
    TRAINED,
    at_weight,
    base_of,
    main_weight,
    plain,
    trained,
    words,
)


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
        *reservations(table),
    ]
    return Finding(tuple(sentences), summary(table), selection_rule(table))


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
            yield Statement("base", f"The unguided base{which} is off by {listed(told)}.")


def _harm(table: StudyTable) -> Iterator[Statement]:
    cells, _ = _at_main_weight(table)
    for objective in ("cross_entropy", "kl"):
        for metric, name in LENSES.items():
            known = change(trained(cells, objective), metric)
            if len(known):
                yield _worst_sentence(table, known, metric, name)


def _worst_sentence(table: StudyTable, known: pd.DataFrame, metric: str, name: str) -> Statement:
    """The largest rise beyond noise; without one, the cell that comes nearest to it."""
    raised = known[known["in_errors"] > THRESHOLD]
    chosen = raised["change"].idxmax() if len(raised) else known["in_errors"].idxmax()
    cell, row = table.cells.loc[chosen], known.loc[chosen]
    value, by = estimate(cell, metric), Estimate(row["change"], row["change_se"])
    base = base_of(table, cell.to_frame().T)
    level = estimate(base, metric) if base is not None else None
    from_base = f", base {level}" if level is not None else ""
    where, errors = words(cell, table.axes), errors_in_words(row["in_errors"])
    subject = NAMES[cell["objective"]]
    topic = f"{subject.removeprefix('The ')} at its worst"
    if len(raised):
        to = f"to {value} nats{from_base}. That is" if value is not None else "it is"
        text = (
            f"Beyond noise, {subject[0].lower()}{subject[1:]} raises the {name} most at {where}: "
            f"{to} {by} nats above the base, "
            f"{errors}; {_how_many(len(raised), len(known))}."
        )
        return Statement(topic, text, "harm")
    below = row["in_errors"] < -THRESHOLD
    sense = "below the base" if below else "not above the base beyond noise"
    text = (
        f"{subject} raises the {name} nowhere beyond {THRESHOLD:g} standard errors: where it "
        f"comes nearest to it ({where}) it is {sense}, {_at(value, by, from_base)} ({errors})."
    )
    return Statement(topic, text, "gain" if below else "neutral")


def _at(value: Estimate | None, by: Estimate, from_base: str) -> str:
    """The level where it is known; of images only the change is."""
    return f"at {value} nats{from_base}" if value is not None else f"a change of {by} nats"


def _how_many(raised: int, known: int) -> str:
    return f"{raised} of {known} cells are above it beyond {THRESHOLD:g}"


def _counts(table: StudyTable) -> Iterator[Statement]:
    cells, weight = _at_main_weight(table)
    for objective in TRAINED:
        told, ups, downs = [], 0, 0
        for metric in ("path_kl", "kl"):
            known = change(trained(cells, objective), metric)
            up = int((known["in_errors"] > THRESHOLD).sum())
            down = int((known["in_errors"] < -THRESHOLD).sum())
            ups, downs = ups + up, downs + down
            if len(known):
                cells_up = f"in {up} of {len(known)} cells"
                told.append(f"raises the {LENSES[metric]} {cells_up}, lowers it in {down}")
        if told:
            subject = f"{NAMES[objective]} at {weight}"
            text = f"{subject} {'; it '.join(told)} (beyond {THRESHOLD:g} standard errors)."
            tone: Tone = "harm" if ups > downs else "gain" if not ups and downs else "neutral"
            yield Statement("how often", text, tone)


def _comparison(table: StudyTable) -> Iterator[Statement]:
    found = {name: best(table, name) for name in ("cross_entropy", "kl")}
    ours, theirs = found["kl"], found["cross_entropy"]
    if ours is None or theirs is None:
        return
    pair = pd.DataFrame([ours[0], theirs[0]])
    gaps: list[Estimate] = []
    told = []
    for metric, name in LENSES.items():
        a, b = (_level_or_change(cell[0], metric) for cell in (ours, theirs))
        if a is None or b is None or is_suspect(pair, metric).any():
            continue
        gaps.append(Estimate(a.value - b.value, float(np.hypot(a.error, b.error))))
        sense = "below" if gaps[-1].value < 0 else "above"
        told.append(
            f"its {name} is {sense}, {a} against {b} ({errors_in_words(gaps[-1].in_errors)})"
        )
    if told:
        text = (
            f"The best KL-objective setting ({words(ours[0], table.axes)}) beside the best "
            f"cross-entropy one ({words(theirs[0], table.axes)}): {listed(told)}."
        )
        yield Statement("best against best", text, _verdict(gaps))


def _level_or_change(cell: pd.Series, metric: str) -> Estimate | None:
    """A KL, or of images its change against the base: differences of either are the same."""
    return estimate(cell, metric) or estimate(cell, f"{metric}_change")


def _verdict(gaps: list[Estimate]) -> Tone:
    """Gain if some lens is clearly lower and none clearly higher; caution if some is higher."""
    if any(gap.in_errors > THRESHOLD for gap in gaps):
        return "caution"
    return "gain" if any(gap.in_errors < -THRESHOLD for gap in gaps) else "neutral"


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
        f"{highest['objective']}, {words(highest, table.axes)}; counted in errors the largest is "
        f"{errors_in_words(surest['in_errors'])}."
    )
    yield Statement("calibrated", text, "harm" if above else "gain")


def _controls(table: StudyTable) -> Iterator[Statement]:
    cells, weight = _at_main_weight(table)
    for _, cell in cells[cells["objective"] == "oracle"].head(1).iterrows():
        told = [f"{name} {v}" for m, name in LENSES.items() if (v := estimate(cell, m))]
        if told:
            text = f"The oracle (exact log-ratio) at {weight} reaches {listed(told)} nats."
            yield Statement("controls", text)
    shaken = cells[(cells["objective"] == "oscillating") & cells["path_kl_change"].notna()]
    if shaken.empty:
        return
    cell = shaken.loc[shaken["path_kl_change"].idxmax()]
    told = [f"{name} {v}" for m, name in LENSES.items() if (v := estimate(cell, m))]
    gap = estimate(cell, "cross_entropy_gap")
    near = f" has a cross-entropy {gap} nats above the optimum and" if gap else ""
    name = ", ".join(part for part in (cell["label"], weight) if part)
    harmful = change(cell.to_frame().T, "path_kl").iloc[0]["in_errors"] > THRESHOLD
    yield Statement(
        "controls",
        f"The control {name}{near} gives {listed(told)} nats.",
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
            f"The {LENSES['kl']} rises beyond {THRESHOLD:g} standard errors in "
            f"{counted(len(harmed), 'cell')} at {weight}; in {not_seen} the {name} does not"
        )
        end = ": the lenses disagree there." if not_seen else ": here the lenses agree."
        yield Statement("lenses", text + end, "caution" if not_seen else "neutral")

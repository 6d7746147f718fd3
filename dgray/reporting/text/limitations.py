"""Method of the tests of significance, and limitations of a finding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dgray.data.summary import counted
from dgray.reporting.comparisons import LEVEL, Comparison, Comparisons
from dgray.reporting.presentation import divergences, metrics
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement, listed

LIMITATIONS = "limitations"


def method(comparisons: Comparisons) -> str:
    """Return how differences were tested; empty if none was."""
    families = {
        "of trained models with the base": comparisons.trained,
        "of best models with each other": comparisons.between,
        "of controls with the base": comparisons.controls,
    }
    counts = {name: sum(c.is_tested for c in family) for name, family in families.items()}
    numbers = [f"{counted(n, 'comparison')} {name}" for name, n in counts.items() if n]
    if not numbers:
        return ""
    tested = [c for c in (*comparisons.trained, *comparisons.between) if c.is_tested]
    degrees = ""
    if tested:
        degrees = (
            f" with {_degrees(tested)} (replicates minus one, or fewer where the error of a "
            f"metric is estimated from fewer parts)"
        )
    if any(c.is_tested for c in comparisons.controls):
        degrees += "; of controls, which are not trained, with the error over held-out points"
    return (
        f"Tested: {listed(numbers)}, by two-sided t tests of paired differences{degrees}. "
        f"p-values are adjusted for the number of comparisons of their kind after Benjamini and "
        f"Hochberg (1995). A difference is significant if its adjusted p-value is below "
        f"{LEVEL:g}, so that the expected share of false ones among the significant differences "
        f"is at most {LEVEL:.0%} (for independent or positively dependent comparisons)."
    )


def limitations(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield the limitations of the finding."""
    yield from _one_replicate(table)
    yield from _unreliable_kl(table, comparisons)
    yield from _some_features(table)
    if len(table.failures):
        text = (
            f"{counted(len(table.failures), 'trial')} failed; the numbers of this report do not "
            f"include their missing rows."
        )
        yield Statement(LIMITATIONS, text, "caution")


def _degrees(tested: list[Comparison]) -> str:
    degrees = sorted({int(c.degrees) for c in tested})
    if len(degrees) == 1:
        return counted(degrees[0], "degree") + " of freedom"
    return f"{degrees[0]} to {degrees[-1]} degrees of freedom"


def _one_replicate(table: StudyTable) -> Iterator[Statement]:
    models = trained(table.models)
    single = int((models["replicates"] == 1).sum())
    if not single:
        return
    text = (
        f"{counted(single, table.model_kind)} of {len(models)} {'has' if single == 1 else 'have'} "
        f"one replicate. The variation between training runs is then unknown, and ± covers the "
        f"held-out data only, so no change of {'it' if single == 1 else 'them'} is called "
        f"significant; set replicates to 2 or more."
    )
    yield Statement(LIMITATIONS, text, "caution")


def _some_features(table: StudyTable) -> Iterator[Statement]:
    rows = table.rows
    if "num_single_features" not in rows:  # rows of an earlier version
        return
    rows = rows[rows["num_single_features"] < rows["num_scored"]]
    if not len(rows):
        return
    read, drawn = (int(rows[name].max()) for name in ("num_single_features", "num_scored"))
    names = [m.name for m in metrics() if m.source == "features" and not m.needs_moments_only]
    names = [name for name in names if name in rows and rows[name].notna().any()]
    text = (
        f"{listed(names)} are computed from the features of {read:,} of {drawn:,} generated "
        f"images (evaluate.num_single_features); Fréchet distances are of all of them."
    )
    yield Statement(LIMITATIONS, text)


def _unreliable_kl(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    ok = table.rows[table.rows["status"] == "ok"]
    metric = next(m for m in divergences().values() if m.unreliable_column)
    kl, column = metric.name, metric.unreliable_column
    missed = int((ok[column].fillna(0) > 0).sum())
    if not missed:
        return
    values = ok[kl].notna() | ok[f"{kl}_change"].notna()
    num_compared = sum(c.metric == kl for c in comparisons.with_base)
    total = num_compared + comparisons.num_unreliable
    text = (
        f"In {missed} of {int(np.sum(values))} rows with a value of {kl} or its change, the "
        f"integration of the probability-flow ODE missed its tolerance for some held-out points "
        f"(column {column}), so that they are unreliable. Comparisons of {kl} leave out "
        f"{comparisons.num_unreliable} of {counted(total, table.model_kind)} for this reason."
    )
    yield Statement(LIMITATIONS, text, "caution")

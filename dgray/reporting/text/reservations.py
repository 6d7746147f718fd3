"""What the finding rests on: suspect integrations, few replicates, failed trials.

Knows ``StudyTable`` only.
"""

from __future__ import annotations

from collections.abc import Iterator

from scipy.stats import t

from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import THRESHOLD, Statement, counted, is_suspect
from dgray.reporting.views import at_weight, main_weight, plain, trained

_MANY = 10  # replicates from which three standard errors are nearly those of a normal law


def reservations(table: StudyTable) -> Iterator[Statement]:
    """Every reason to trust the finding less."""
    yield from _suspect_kl(table)
    yield from _few_replicates(table)
    if len(table.failures):
        text = (
            f"{counted(len(table.failures), 'trial')} failed; no number here includes their "
            f"missing rows."
        )
        yield Statement("reservations", text, "caution")


def _suspect_kl(table: StudyTable) -> Iterator[Statement]:
    ok = table.rows[table.rows["status"] == "ok"]
    missed = int((ok["kl_unconverged"].fillna(0) > 0).sum())
    if not missed:
        return
    compared = table.cells[table.cells["kl_change"].notna()]
    left_out = int(is_suspect(compared, "kl").sum())
    text = (
        f"In {missed} of {int(ok['kl'].notna().sum())} rows with a kl, the integration missed "
        f"its tolerance for some held-out points (column kl_unconverged): kl is suspect there. "
        f"Comparisons of kl leave out {left_out} of {counted(len(compared), 'cell')} for it."
    )
    yield Statement("reservations", text, "caution")


def _few_replicates(table: StudyTable) -> Iterator[Statement]:
    """Three standard errors from few replicates are weaker than they sound."""
    cells = trained(table.cells)
    guided = plain(table.cells)
    judged = trained(at_weight(guided, main_weight(guided))).index.union(
        cells.index[cells["is_calibrated"].astype(bool)]
    )
    replicates = int(cells["replicates"].min()) if len(cells) else 0
    if not 1 < replicates < _MANY:
        return
    p = 2 * t.sf(THRESHOLD, replicates - 1)
    freedom = counted(replicates - 1, "degree")
    text = (
        f"Standard errors between replicates rest on {replicates} replicates: where that spread "
        f"dominates, {THRESHOLD:g} standard errors correspond to a two-sided p of {p:.2g} per "
        f"cell (t distribution, {freedom} of freedom), and {counted(len(judged), 'cell')} were "
        f"looked at."
    )
    yield Statement("reservations", text, "caution")

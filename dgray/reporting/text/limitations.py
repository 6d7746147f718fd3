"""Limitations of a finding: unreliable integrations, few replicates, failed trials."""

from __future__ import annotations

from collections.abc import Iterator

from scipy.stats import t

from dgray.reporting.selection import at_main_weight, calibrated, trained
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import THRESHOLD, Statement, counted, is_unreliable

_MANY = 10  # replicates from which the t distribution is nearly normal at three standard errors
_TOPIC = "limitations"


def limitations(table: StudyTable) -> Iterator[Statement]:
    """Yield every reason to trust the finding less."""
    yield from _unreliable_kl(table)
    yield from _few_replicates(table)
    if len(table.failures):
        text = (
            f"{counted(len(table.failures), 'trial')} failed; the numbers of this report do not "
            f"include their missing rows."
        )
        yield Statement(_TOPIC, text, "caution")


def _unreliable_kl(table: StudyTable) -> Iterator[Statement]:
    ok = table.rows[table.rows["status"] == "ok"]
    missed = int((ok["kl_unconverged"].fillna(0) > 0).sum())
    if not missed:
        return
    compared = table.models[table.models["kl_change"].notna()]
    left_out = int(is_unreliable(compared, "kl").sum())
    text = (
        f"In {missed} of {int(ok['kl'].notna().sum())} rows with a value of kl, the integration "
        f"of the probability-flow ODE missed its tolerance for some held-out points (column "
        f"kl_unconverged), so that their kl is unreliable. Comparisons of kl leave out {left_out} "
        f"of {counted(len(compared), 'guided model')} for this reason."
    )
    yield Statement(_TOPIC, text, "caution")


def _few_replicates(table: StudyTable) -> Iterator[Statement]:
    """State how much less strict the threshold is when there are few replicates."""
    models = trained(table.models)
    compared = trained(at_main_weight(table)[0]).index.union(calibrated(models).index)
    replicates = int(models["replicates"].min()) if len(models) else 0
    if not 1 < replicates < _MANY:
        return
    p = 2 * t.sf(THRESHOLD, replicates - 1)
    text = (
        f"Standard errors between replicates are estimated from {replicates} replicates: where "
        f"the spread between replicates dominates, {THRESHOLD:g} standard errors correspond to a "
        f"two-sided p-value of {p:.2g} per comparison (t distribution, "
        f"{counted(replicates - 1, 'degree')} of freedom), and "
        f"{counted(len(compared), 'guided model')} were compared."
    )
    yield Statement(_TOPIC, text, "caution")

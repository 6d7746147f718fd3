"""Figure of a comparison: differences with intervals, a panel per metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dgray.reporting.compare.differences import Difference
from dgray.reporting.figures.looks import BASE_LINE
from dgray.reporting.figures.theme import Drawing, drawing, title, wrapped_grid
from dgray.reporting.figures.view import MAX_LINES
from dgray.reporting.legible import shortened
from dgray.reporting.presentation import BASE, metrics, objective

_LABEL = 44  # characters


def differences_figure(differences: Sequence[Difference]) -> Drawing | None:
    """Draw at most a dozen differences per metric, ± 1 standard error; None if there are none."""
    titles = {metric.name: metric.title for metric in metrics()}
    names = [name for name in titles if any(d.metric == name for d in differences)]
    groups = {name: [d for d in differences if d.metric == name][:MAX_LINES] for name in names}
    if not names:
        return None
    tallest = max(map(len, groups.values()))
    figure, axes = wrapped_grid(1, len(names), width=4.6, height=1.1 + 0.3 * tallest)
    for panel, (name, group) in zip(axes[0], groups.items(), strict=True):
        places = np.arange(len(group))[::-1]
        for place, d in zip(places, group, strict=True):
            error = d.estimate.error if np.isfinite(d.estimate.error) else 0.0
            panel.errorbar(
                d.estimate.value,
                place,
                xerr=error,
                fmt=objective(d.objective).marker,
                color=objective(d.objective).colour,
                markerfacecolor=objective(d.objective).colour if d.sign else "white",
            )
        panel.axvline(0, color=BASE.colour, linewidth=1, linestyle=BASE_LINE)
        panel.set_yticks(places, [_label(d) for d in group])
        panel.set_ylim(-0.7, tallest - 0.3)
        panel.locator_params(axis="x", nbins=5)
        panel.set_xlabel("difference to the reference")
        title(panel, titles[name])
    return drawing(
        figure,
        "Differences to the reference run",
        "",
        "Bars: ± 1 standard error. Filled: significant. A value left of zero is lower in the run "
        "than in the reference.",
        f"At most {MAX_LINES} of the {len(differences)} differences are shown for each metric."
        if sum(map(len, groups.values())) < len(differences)
        else "",
        data=pd.DataFrame([vars(d) for group in groups.values() for d in group]),
    )


def _label(difference: Difference) -> str:
    text = f"{difference.run}: {objective(difference.objective).title}"
    if difference.kind == "same settings" and difference.setting:
        text += f", {difference.setting}"
    return shortened(text, _LABEL)

"""Lines about the images that a study read, from the record of its provenance."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from dgray.data.summary import DataSummary

DATA = "data"  # entry of provenance.json


def data_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return what was read of each data set and what was skipped, one line per data set."""
    lines = []
    for record in provenance.get(DATA) or ():
        with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged record
            lines.append("; ".join(DataSummary.from_json(record).lines()))
    return lines

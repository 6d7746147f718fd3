"""A study for runs in an object store, and access to its rows."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from dgray.config.reading.load import load_study
from dgray.plan.plan import Plan, make_plan

STUDY = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: trained, width: 8, depth: 1, num_real: 64, steps: 30, num_generated: 64}
discriminator: {width: 8, depth: 2}
fit: {objective: [cross_entropy, kl], epochs: 800, checkpoints: [2, 300, 800]}
evaluate:
  guidance_weight: [1.0, calibrated]
  metrics: [path_kl]
  num_points: 20
  num_samples: 20
  num_bins: 4
"""


def plan_of(text: str, *overrides: str) -> Plan:
    Path("plan.yaml").write_text(text)
    return make_plan(load_study(Path("plan.yaml"), overrides))


def rows_of(objects: dict[str, bytes]) -> pd.DataFrame:
    parts = [v for name, v in sorted(objects.items()) if name.startswith("rows/")]
    return pd.concat([pq.read_table(io.BytesIO(part)).to_pandas() for part in parts])

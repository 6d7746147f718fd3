"""Writes a study file that fits its data and this machine."""

from __future__ import annotations

import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.cli.fitting_study import Fields, mixture_study, studies_of_images
from dgray.cli.point_study import studies_of_points
from dgray.cli.run import show_plan
from dgray.config.reading.load import load_study
from dgray.engine.granted_cpus import granted_cpus
from dgray.errors import OutputError
from dgray.files import output_file, write_atomically
from dgray.plan.cost import duration, estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.inputs import inspect

BUDGET_SECONDS = 900.0  # estimated time of a study that is written
_HEADER = """\
# Written by dgray init. All fields: docs/study_file.md, or dgray schema.
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Data and base of a study to be written; all None: a mixture.

    Attributes:
        images: folder, zip or npz file of images.
        points: npz, csv or parquet file of points.
        label: column of the points with their classes.
        edm: network file, the base.
        diffusers: folder of a model, the base.
    """

    images: Path | None
    points: Path | None
    label: str | None
    edm: Path | None
    diffusers: Path | None

    @property
    def path(self) -> Path | None:
        """The file or folder after which the study is named."""
        return self.edm or self.diffusers or self.images or self.points

    def studies(self, name: str) -> Iterable[Fields]:
        """Return studies, from the largest."""
        if self.points is not None:
            return studies_of_points(name, self.points, self.label)
        if self.path is None:
            return [mixture_study(name)]
        return studies_of_images(name, self.images, edm=self.edm, diffusers=self.diffusers)


def write(source: Source, *, out: Path | None, force: bool) -> int:
    """Write a study and print its plan.

    Args:
        source: what it is written for.
        out: file to write; None: after the name of the study.
        force: replace an existing file.

    Raises:
        OutputError: the file exists, or cannot be written.
        DataError: the data cannot be used.
        StudyError: the images and the network do not fit.
    """
    name = "mixture" if source.path is None else _name(source.path)
    place = out or Path(f"{name}.yaml")
    if os.path.lexists(place) and not force:
        raise OutputError(f"{place}: exists already; give another file with --out, or --force")
    output_file(place)
    text, seconds = _largest_that_fits(source.studies(name))
    write_atomically(place, lambda file: file.write(text.encode()))
    status = show_plan(place, ())
    if seconds > BUDGET_SECONDS:
        print(f"notice: this machine needs about {duration(seconds)}; smaller data take less")
    print(f"wrote {place}; run it with: {shlex.join(['dgray', 'run', str(place)])}")
    return status


def _largest_that_fits(candidates: Iterable[Fields]) -> tuple[str, float]:
    """Return the first study within the budget, or the last one, with its estimated seconds."""
    text, seconds = "", 0.0
    for fields in candidates:
        text = _HEADER + _yaml(fields)
        plan = _plan(text)
        inspect(plan).check()
        seconds = estimate(plan, cpus=granted_cpus()).wall_seconds
        if seconds <= BUDGET_SECONDS:
            break
    return text, seconds


def _plan(text: str) -> Plan:
    with tempfile.TemporaryDirectory(prefix="dgray-init-") as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return make_plan(load_study(path))


def _name(source: Path) -> str:
    """Return the name of a study of a file or folder."""
    stem = source.expanduser().resolve().name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:80]
    return name or "images"


def _yaml(fields: dict[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel: None
    yaml.default_flow_style = None
    yaml.width = 99
    stream = io.StringIO()
    yaml.dump(fields, stream)
    return stream.getvalue()

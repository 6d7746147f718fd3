"""A study as an object: load it, plan it, run it."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from dgray.api.html import console_html, recorded
from dgray.api.objects import without_objects
from dgray.catalogue.objects import install, objects_of
from dgray.cli.plan_view import render_plan
from dgray.cli.run import is_resumed
from dgray.config.reading.load import flow_text, load_values, lock_text
from dgray.config.reading.load import load_study as load_file
from dgray.config.reading.plain import plain_fields
from dgray.engine.granted_cpus import granted_cpus
from dgray.engine.interrupt import interruptible
from dgray.errors import PartError, RunRefusedError
from dgray.plan.cost import CostEstimate, estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.inputs import inspect
from dgray.record.storage.location import location

if TYPE_CHECKING:
    from dgray.api.run import Run


class Study:
    """Valid study with its plan; made by ``dgray.load_study``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._objects = objects_of(plan.study.raw)  # another study may register others later

    @property
    def name(self) -> str:
        """Name of the study."""
        return self._plan.study.name

    @property
    def config(self) -> Mapping[str, Any]:
        """Every field of the study, defaults included; axes are lists."""
        return copy.deepcopy(self._plan.study.raw)

    def to_yaml(self) -> str:
        """Return the study file with every field."""
        return lock_text(self._plan.study)

    def plan(self) -> PlanView:
        """Return the trials of the study with an estimate of their time and disk space."""
        return PlanView(self._plan, estimate(self._plan, cpus=granted_cpus()))

    def run(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        engine: Literal["ray", "local"] = "ray",
        fresh: bool = False,
        progress: bool = True,
        report: bool = True,
    ) -> Run:
        """Run what is missing of the study, write the report, and return the run.

        Args:
            out: run folder or URI (``s3://BUCKET/PATH``); default ``runs/NAME``. A run of the same
                study is resumed; one of a smaller study grows.
            engine: ``ray``: Ray workers; ``local``: this process.
            fresh: start a new run in a new folder.
            progress: print the progress and the summary.
            report: write the report at the end; without it, ``dgray report`` makes it later.

        Returns:
            The run; ``Run.is_complete`` is False if rows are missing.

        Raises:
            StudyError: files, packages or weights that the study needs are missing or do not fit.
            RunRefusedError: the folder holds another study or other files, or is in use; or a
                device or a Python object of the study is not here.
            EngineError: Ray did not start, or died.
            StoreError: results cannot be stored.
            KeyboardInterrupt: interrupted; the same call resumes the study.
        """
        with warnings.catch_warnings():  # tqdm's, about widgets that dgray does not use
            warnings.filterwarnings("ignore", "IProgress not found")
            from dgray.api.run import Run  # torch, pyarrow: not to load and plan
            from dgray.cli.session import run_study
        from dgray.problem.build import check_device
        from dgray.record.open_run import open_run

        if engine not in ("ray", "local"):
            raise RunRefusedError(f"engine must be 'ray' or 'local', but got {engine!r}")
        install(self._objects)
        place = None if out is None else location(os.fspath(out))
        if not is_resumed(self._plan, place, fresh=fresh):
            inspect(self._plan).check(files=True)
        if engine == "local":
            check_device(self._plan.trials[0].config)
        with interruptible():
            opened = open_run(self._plan, place, fresh)
            where = opened.folder.where
            try:
                run_study(
                    self._plan,
                    opened,
                    engine=engine,
                    arguments=["dgray.Study.run"],
                    resume_hint=f"To resume: study.run(out={str(where)!r})",
                    has_report=report,
                    console=Console(quiet=not progress, force_jupyter=False),
                )
            finally:
                opened.close()
        return Run(location(str(where)))

    def __repr__(self) -> str:
        counts = self._plan.counts
        return f"<dgray.Study {self.name}: {counts.trials} trials, {counts.rows} rows>"

    def _repr_html_(self) -> str:
        return self.plan()._repr_html_()


@dataclass(frozen=True)
class PlanView:
    """Trials of a study and an estimate of their cost.

    Attributes:
        plan: trials in the order of the study's axes.
        estimate: seconds and bytes of the study on the CPUs of this machine.
    """

    plan: Plan
    estimate: CostEstimate

    @property
    def trials(self) -> tuple[str, ...]:
        """Labels of the trials."""
        return tuple(trial.label for trial in self.plan.trials)

    def __str__(self) -> str:
        return recorded(render_plan(self.plan, self.estimate)).export_text()

    def __repr__(self) -> str:
        counts = self.plan.counts
        return f"<plan of {self.plan.study.name}: {counts.trials} trials, {counts.rows} rows>"

    def _repr_html_(self) -> str:
        return console_html(render_plan(self.plan, self.estimate))


def load_study(
    study: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Study:
    """Load a study from a file, or from a mapping of its fields.

    Args:
        study: path of a YAML file, or the fields themselves, in which data, base, discriminator,
            objective, metrics and samplers may be Python objects (see ``dgray.part``).
        overrides: replaced fields: a mapping of dotted paths to values, which may be such objects
            too, or ``a.b=value`` texts as on the command line.

    Raises:
        StudyError: the study is invalid; the error states every problem.
        PartError: a Python object has no name or version, or cannot be that part.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    if isinstance(overrides, Mapping):
        overrides = [_override(str(path), value) for path, value in overrides.items()]
    if not isinstance(study, Mapping):
        return Study(make_plan(load_file(Path(study), overrides)))
    return Study(make_plan(load_values(plain_fields(without_objects(study)), overrides)))


def _override(path: str, value: Any) -> str:
    """Return an override ``a.b=value``, given its value, which may be a Python object.

    Raises:
        PartError: the object is only one field of a section.
    """
    names = path.split(".")
    for name in reversed(names):
        value = {name: value}
    value = plain_fields(without_objects(value))
    for name in names:
        if name not in value:
            section = path.rpartition(".")[0]
            raise PartError(
                f"{path}: an object replaces its whole section; give "
                f"{{{section!r}: {{{name!r}: ...}}}} with the other fields of the section"
            )
        value = value[name]
    return f"{path}={flow_text(value)}"

"""``dgray check``: check a study file, or every record of a run."""

from __future__ import annotations

from pathlib import Path

import click

from dgray.cli.command import invocation
from dgray.cli.engine_command import engine_command
from dgray.cli.study import StudyCommand, study_option


@click.command(
    cls=StudyCommand,
    examples=[
        "dgray check studies/digits.yaml",
        "dgray check runs/digits",
        "dgray check s3://BUCKET/PATH",
    ],
)
@click.argument("subject", metavar="STUDY.yaml|RUN")
@study_option
@engine_command(interrupted="interrupted")
def check(*, subject: str, overrides: tuple[str, ...]) -> int:
    """Check a study file, or the records of a run.

    Of a study: every field, its input files with all images, and its networks and parts of other
    packages on two samples. Of a run, given as folder or URI: the checksum of every record, and
    whether it belongs to the run. Exit status: 0 if all is well; 1 if a record is damaged; 2 if
    the study or the run is refused.
    """
    from dgray.cli import rebuild_report, run

    run.refuse_credentials(invocation().arguments)
    if "://" in subject or Path(subject).is_dir():
        if overrides:
            raise click.UsageError("--set is for a study file, not for a run")
        return rebuild_report.check(subject)
    return run.check_study(Path(subject), overrides)

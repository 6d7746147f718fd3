"""``dgray schema``: the JSON Schema of the study file."""

from __future__ import annotations

import json

import click

from dgray.cli.command import Command


@click.command(cls=Command, examples=["dgray schema > study.schema.json"])
def schema() -> int:
    """Print the JSON Schema of the study file.

    An editor completes and checks a study whose first line is
    "# yaml-language-server: $schema=PATH", with the path of the schema from the study. The names
    of parts that other installed packages register are included.
    """
    from dgray.cli.output import printed
    from dgray.config.study_schema import study_schema

    print(json.dumps(study_schema(), indent=1))
    return printed()

"""``dgray doctor``: what this machine can run, and what is missing."""

from __future__ import annotations

import click

from dgray.cli.command import Command
from dgray.cli.engine_command import engine_command
from dgray.data.summary import counted


@click.command(cls=Command, examples=["dgray doctor", "dgray doctor --no-ray"])
@click.option("--ray/--no-ray", "starts_ray", default=True, help="Start Ray for a moment or not.")
@engine_command(interrupted="interrupted")
def doctor(*, starts_ray: bool) -> int:
    """Check what this machine can run: versions, devices, Ray, weights, places.

    Each line is ok, optional (missing, with what it is for and where to put it) or problem (with
    the fix). Exit status: 0; 1 if there is a problem.
    """
    from rich.console import Console

    from dgray.cli.machine_checks import State, check_machine

    colours = {State.OK: "green", State.OPTIONAL: "yellow", State.PROBLEM: "red"}
    console = Console(soft_wrap=True)
    num_problems = 0
    for check in check_machine(starts_ray=starts_ray):
        num_problems += check.state is State.PROBLEM
        console.print(f"{check.state.value:9}", style=colours[check.state], end="")
        console.print(f"{check.subject}: {check.text}", markup=False, highlight=False)
    console.print(counted(num_problems, "problem") if num_problems else "no problems")
    return 1 if num_problems else 0

"""Commands on click: their help, exit statuses and error messages, the same for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from dgray.cli.output import printed, robust_output
from dgray.errors import INTERRUPTED, DgrayError, one_line
from dgray.files import disk_full

MAX_LINE = 1000  # characters of a message, which may repeat a long value
_ARGUMENTS = "dgray.arguments"
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """Command whose help ends with examples.

    Attributes:
        examples: command lines that are valid.
    """

    def __init__(self, *, examples: Sequence[str], **options: Any) -> None:
        super().__init__(context_settings=_SETTINGS, **options)
        self.examples = tuple(examples)

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        self.keep_arguments(ctx, args)
        return super().parse_args(ctx, args)

    def keep_arguments(self, ctx: click.Context, args: Sequence[str]) -> None:
        """Keep the arguments for ``invocation``."""
        ctx.meta[_ARGUMENTS] = tuple(args)

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)


class Group(click.Group):
    """Group of commands whose help ends with examples, as of ``Command``."""

    def __init__(self, *, examples: Sequence[str], **options: Any) -> None:
        super().__init__(context_settings=_SETTINGS, **options)
        self.examples = tuple(examples)

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """Write command lines at the end of a help, one a line."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':{formatter.current_indent}}{example}\n")


@dataclass(frozen=True)
class Invocation:
    """Command line of this process.

    Attributes:
        program: how the command was named, such as ``dgray run``.
        arguments: its arguments, as they were typed.
    """

    program: str
    arguments: tuple[str, ...]


def invocation() -> Invocation:
    """Return the command line of the command that is running."""
    context = click.get_current_context()
    return Invocation(context.command_path, context.meta[_ARGUMENTS])


def run_command(command: click.Command, arguments: Sequence[str] | None, program: str) -> int:
    """Run a command and return its exit status.

    Args:
        command: its callback returns the exit status.
        arguments: of the command line; None: those of this process.
        program: shown in usage and error messages.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    return exit_status(lambda: _invoke(command, typed, program))


def _invoke(command: click.Command, arguments: list[str], program: str) -> int:
    try:
        with command.make_context(program, arguments) as context:
            return int(command.invoke(context))
    except click.exceptions.Exit as end:  # after --help and --version
        return end.exit_code or printed()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        origin: click.Context | None = getattr(error, "ctx", None)
        path = origin.command_path if origin else program
        rule = one_line(error.format_message().rstrip("."))
        print(f"{path}: error: {rule}; see --help", file=sys.stderr)
        return error.exit_code


def exit_status(command: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Run a command and return its exit status; print the message of an error to stderr.

    Notes of an error (``BaseException.add_note``) are printed after its message.

    Args:
        command: returns the exit status of a run without errors.
        interrupted: message after an interrupt that has none of its own.

    Returns:
        The status of the command or of the error (``DgrayError.exit_status``), 2 if a file cannot
        be read or written, or 130 after an interrupt.
    """
    _ensure_home()
    with robust_output():
        return _status(command, interrupted)


def _status(command: Callable[[], int], interrupted: str) -> int:
    try:
        return command()
    except DgrayError as error:
        return _report(error, str(error), error.exit_status)
    except OSError as error:
        full = disk_full(error, Path(error.filename or "."))
        message = str(full or error)
        if full is None and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        return _report(error, message, 2 if full is None else full.exit_status)
    except UnicodeEncodeError as error:
        if error.encoding.lower() in ("utf-8", "utf8"):
            raise
        return _report(
            error,
            f"the locale's encoding, {error.encoding}, lacks a character of a file name; set "
            "PYTHONUTF8=1, or LC_ALL to a locale of UTF-8",
            2,
        )
    except KeyboardInterrupt as error:
        return _report(error, str(error) or interrupted, INTERRUPTED)


def _report(error: BaseException, message: str, status: int) -> int:
    text = ". ".join([message, *getattr(error, "__notes__", [])])
    for line in text.splitlines():
        print(one_line(line, MAX_LINE), file=sys.stderr)
    return status


def _ensure_home() -> None:
    """Set HOME for a user without a home, as in some containers; Ray cannot be imported else."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"  # as Docker does

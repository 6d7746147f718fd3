"""Exceptions that dgray raises for errors that a user can cause or must correct.

Each class has the exit status with which the command line ends (``dgray.cli.command``): 2 for a
request that is refused before anything is computed, 1 for work that could not be completed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from dgray.config.reading.diagnostics import Diagnostic
    from dgray.data.summary import DataSummary

MAX_SHOWN = 30  # problems of a study that are listed
INTERRUPTED = 130  # exit status after Ctrl-C or SIGTERM, as of a shell


def one_line(text: str, length: int = 400) -> str:
    """Return a text, which may repeat a user's value, as it can be shown on a terminal.

    Line breaks and control characters are escaped, and a long text loses its middle.
    """
    if len(text) > length:
        text = f"{text[: length // 2]} ... {text[-length // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DgrayError(Exception):
    """Base class of all errors of dgray; the message states the rule, the value and the fix."""

    exit_status: ClassVar[int] = 2


class StudyError(DgrayError):
    """Raised when a study file is invalid; holds every problem that was found in it."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics)))
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        lines = [str(diagnostic) for diagnostic in self.diagnostics[:MAX_SHOWN]]
        if (rest := len(self.diagnostics) - MAX_SHOWN) > 0:
            lines.append(f"and {rest} more")
        return "\n".join(lines)


class RunRefusedError(DgrayError):
    """Raised when a run folder or the requested resources cannot be used for this command."""


class RecordError(DgrayError, ValueError):
    """Raised when a record of a run is damaged, misplaced, or belongs to another run.

    Attributes:
        reason: what is wrong with it.
        name: its name relative to the run; empty where it is not known yet.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        self.reason, self.name = reason, name
        super().__init__(reason, name)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.name else self.reason


class OutputError(DgrayError):
    """Raised when a file or folder of output cannot be created or written."""


class NotARunError(DgrayError):
    """Raised when a folder that should be reported holds no run of a study."""


class NoRowsError(DgrayError):
    """Raised when a run has no rows yet."""


class NoSuchModelError(DgrayError):
    """Raised when a run has no such trial, replicate, guidance weight or checkpoint to sample."""


class FigureError(DgrayError):
    """Raised when a figure cannot be drawn: unknown name, no numbers, or an invalid style."""


class SampleError(DgrayError):
    """Raised when a model cannot be sampled, or its samples are not finite."""

    exit_status = 1


class DiscriminatorError(DgrayError, ValueError):
    """Raised when a user's module cannot be a discriminator or the trunk of one."""


class CorrectionError(DgrayError, ValueError):
    """Raised when a correction cannot be built or trained for a base or a network."""


class GuidedModelError(DgrayError, ValueError):
    """Raised when a corrected model cannot be built, called, stored or loaded."""


class PartError(DgrayError):
    """Raised when a part of another package cannot be built, or does not work on two samples.

    Attributes:
        field: field of the study that names the part, with which the message begins; empty where
            it is not known.
    """

    def __init__(self, message: str, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class DataError(DgrayError, ValueError):
    """Raised when a mixture, or images, labels or splits of a data set are invalid."""


class MetricError(DgrayError, ValueError):
    """Raised when a metric cannot compare samples with a reference, such as too few of them."""


class FeaturesError(DgrayError, ValueError):
    """Raised when a feature extractor, its weights or reference statistics are invalid."""


class MissingFileError(DgrayError, FileNotFoundError):
    """Raised when a file or folder of data or weights is missing; states where to get it.

    Attributes:
        summary: what the data set contains, if that is known without its files.
    """

    summary: DataSummary | None = None


class NetworkError(DgrayError, ValueError):
    """Base class of the errors of pretrained networks."""


class ArchitectureError(NetworkError):
    """Raised when a file describes a network that dgray cannot build."""


class DiffusersError(NetworkError):
    """Raised when a folder is not a supported model of the diffusers library."""


class NetworkFileError(NetworkError):
    """Raised when a stored network is damaged or does not match its architecture."""


class PickleError(NetworkError):
    """Raised when a pickle is damaged or holds anything but plain data and tensors."""


class SourceError(NetworkError):
    """Raised when a network cannot be downloaded, or its checksum is not the expected one."""


class StoreError(DgrayError, OSError):
    """Raised when a disk or an object store cannot be read or written; ends the study."""

    exit_status = 1


class DiskFullError(StoreError):
    """Raised when no space is left for a file; nothing of that file has been written."""


class ArtifactError(DgrayError):
    """Raised when an artifact that all trials share cannot be computed; ends the study."""

    exit_status = 1


class EngineError(DgrayError):
    """Raised when the engine cannot start, or when it ended while a study was running."""

    exit_status = 1

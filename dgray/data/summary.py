"""Summary of a data set: what was read, and what was skipped or changed. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

MAX_CLASSES_SHOWN = 12
MAX_NAMES_SHOWN = 3
NO_CLASSES = "no classes"  # beginning of the remark that states why there are none


@dataclass(frozen=True)
class DataSummary:
    """Facts about a data set, to be compared with what its user expects.

    Attributes:
        name: name of the data set.
        num_images: number of images, or of points.
        shape: (C, H, W) of every image; (d,) of points.
        classes: number of images of each class by its name, in the order of the labels; None:
            the images have no classes.
        remarks: what was skipped or changed, and why.
        num_test: number of images of the test part; None: there is no such part.
        digests: content of each sample, if they were read and some are identical; not stored.
    """

    name: str
    num_images: int
    shape: tuple[int, ...]
    classes: Mapping[str, int] | None = None
    remarks: tuple[str, ...] = ()
    num_test: int | None = None
    digests: tuple[bytes, ...] = field(default=(), compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values, the inverse of ``from_json``."""
        record = asdict(replace(self, digests=()))
        del record["digests"]
        return record

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> DataSummary:
        """Return the summary of a record."""
        return DataSummary(
            name=str(record["name"]),
            num_images=int(record["num_images"]),
            shape=tuple(map(int, record["shape"])),
            classes=record.get("classes"),
            remarks=tuple(map(str, record.get("remarks", ()))),
            num_test=record.get("num_test"),
        )

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        first = f"{self.name}: {counted(self.num_images, self.noun)} of {self._size}"
        others = [remark for remark in self.remarks if not remark.startswith(NO_CLASSES)]
        return [first, self.classes_line, *others]

    @property
    def noun(self) -> str:
        """Name of its samples, in the singular."""
        return "image" if len(self.shape) == 3 else "point"

    @property
    def _size(self) -> str:
        if len(self.shape) != 3:
            return counted(self.shape[0], "dimension")
        channels, height, width = self.shape
        return f"{height} x {width} pixels, {counted(channels, 'channel')}"

    @property
    def classes_line(self) -> str:
        """The classes with their numbers of images, or why there are none."""
        if self.classes is None:
            return next((r for r in self.remarks if r.startswith(NO_CLASSES)), NO_CLASSES)
        counts = [f"{name} ({count:,})" for name, count in self.classes.items()]
        hidden = counts[MAX_CLASSES_SHOWN:]
        numbers = self.classes.values()
        more = (
            f" and {len(hidden):,} more ({min(numbers):,} to {max(numbers):,} {self.noun}s each)"
        )
        end = f", {', '.join(counts[:MAX_CLASSES_SHOWN])}{more if hidden else ''}"
        return f"{counted(len(counts), 'class', 'classes')}{end}"


def class_counts(names: Sequence[str], labels: Iterable[int]) -> dict[str, int]:
    """Return the number of labels of each class by its name."""
    counts = Counter(labels)
    return {name: counts[label] for label, name in enumerate(names)}


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, as in ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def examples(names: Sequence[str]) -> str:
    """Return some of the names, as in ``a.txt, b.txt, c.txt, ...``; any text can be encoded."""
    shown = [printable(name) for name in names[:MAX_NAMES_SHOWN]]
    return ", ".join([*shown, *["..."][: len(names) > MAX_NAMES_SHOWN]])


def printable(name: str) -> str:
    """Return a file name without characters that UTF-8 or a terminal cannot show."""
    encoded = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in encoded)

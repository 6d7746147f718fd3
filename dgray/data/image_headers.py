"""Reading of every image of a listing, and the shape that all of them will have. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from dgray.data.decoding import Header, read_header
from dgray.data.listing import Listing
from dgray.data.summary import counted, printable
from dgray.errors import DataError

MAX_SHOWN = 3  # files or sizes that an error names
Result = TypeVar("Result")


def read_each(listing: Listing, function: Callable[[BinaryIO], Result]) -> Iterator[Result]:
    """Yield the result of a function for each image of a listing, in order.

    Raises:
        DataError: at the end, if some cannot be read; the message names the first of them.
    """
    failures: list[str] = []
    for name in listing.images:
        try:
            with listing.open(name) as stream:
                yield function(stream)
        except Exception as error:  # entries of a zip raise errors of many classes
            reason = error if isinstance(error, DataError) else f"cannot be read: {error}"
            failures.append(f"{printable(name)} {reason}")
    if failures:
        number = f"{len(failures):,} of {counted(len(listing.images), 'image')}"
        more = "; ..." if len(failures) > MAX_SHOWN else ""
        raise DataError(
            f"{listing.source}: {'; '.join(failures[:MAX_SHOWN])}{more} ({number}); repair or "
            "remove each such file"
        )


def read_headers(listing: Listing) -> list[Header]:
    """Return the header of every image.

    Raises:
        DataError: if some are damaged.
    """
    return list(read_each(listing, read_header))


def common_shape(
    listing: Listing, headers: Sequence[Header], resize: int | None
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return the shape (C, H, W) of all images as they will be read, and remarks.

    Images have one channel if all are grey, otherwise three.

    Raises:
        DataError: if sizes differ, or images that are not square are to be resized.
    """
    sizes = Counter((header.height, header.width) for header in headers)
    if resize is not None:
        _check_square(listing, headers)
    elif len(sizes) > 1:
        _refuse_sizes(listing, headers, sizes)
    height, width = next(iter(sizes)) if resize is None else (resize, resize)
    grey = [header.is_grey for header in headers]
    remarks = []
    if resize is not None and set(sizes) != {(resize, resize)}:
        number = sum(count for size, count in sizes.items() if size != (resize, resize))
        remarks.append(f"{counted(number, 'image')} resized to {resize} x {resize}")
    if any(grey) and not all(grey):
        coloured = printable(listing.images[grey.index(False)])
        remarks.append(
            f"{counted(sum(grey), 'grey image')} converted to 3 channels, because "
            f"{counted(len(grey) - sum(grey), 'image has', 'images have')} colours ({coloured})"
        )
    return (1 if all(grey) else 3, height, width), tuple(remarks)


def _check_square(listing: Listing, headers: Sequence[Header]) -> None:
    for name, header in zip(listing.images, headers, strict=True):
        if header.height != header.width:
            raise DataError(
                f"{listing.source}: only square images are resized, but {printable(name)} is "
                f"{header.width} wide and {header.height} high; crop it first"
            )


def _refuse_sizes(
    listing: Listing, headers: Sequence[Header], sizes: Counter[tuple[int, int]]
) -> None:
    first = headers[0]
    other = next(i for i, h in enumerate(headers) if (h.height, h.width) != first[:2])
    counts = [f"{count:,} of {h} x {w}" for (h, w), count in sizes.most_common(MAX_SHOWN)]
    fix = "crop them to squares and set data.resize, or convert them to one size"
    if all(height == width for height, width in sizes):
        fix = f"set data.resize: {min(sizes)[0]}, or another size"
    raise DataError(
        f"{listing.source}: all images must have the shape (C, H, W) of the first, but "
        f"{printable(listing.images[0])} has {first.shape} and "
        f"{printable(listing.images[other])} has {headers[other].shape}; there are "
        f"{', '.join(counts)}{', ...' * (len(sizes) > MAX_SHOWN)} pixels; {fix}"
    )

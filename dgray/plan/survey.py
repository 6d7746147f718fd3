"""Summaries of the images of studies, read from headers once for each data set."""

from __future__ import annotations

from typing import Any

from dgray.catalogue import load_object
from dgray.config.data import DataSection, ImageData
from dgray.config.parts import section_arguments
from dgray.data.summary import DataSummary

_Key = tuple[str, tuple[tuple[str, Any], ...]]
_summaries: dict[_Key, DataSummary] = {}  # of this process; a survey may take minutes


def survey(data: DataSection) -> DataSummary | None:
    """Return the summary of a data set; None if it is known only when the data are read.

    Raises:
        MissingFileError: if there is no such data set.
        DataError: if its files are not what they must be.
    """
    key = _key(data)
    if key is None:
        return None
    if key not in _summaries:
        _summaries[key] = load_object(key[0])(**dict(key[1]))
    return _summaries[key]


def sample_shape(data: DataSection) -> tuple[int, ...]:
    """Return the shape of a sample, as far as it is known without a survey of its own."""
    key = _key(data)
    if key is not None and key in _summaries:
        return _summaries[key].shape
    return data.shape or data.assumed_shape


def _key(data: DataSection) -> _Key | None:
    if data.spec.survey is None or not data.is_stored:
        return None
    shared_fields = ImageData if isinstance(data, ImageData) else DataSection
    return data.spec.survey, tuple(sorted(section_arguments(data, shared_fields).items()))

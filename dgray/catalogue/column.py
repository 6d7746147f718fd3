"""Specification of the columns of the table of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnKind = Literal["identity", "metric", "provenance"]


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """Column of the table of rows.

    Attributes:
        name: name of the column.
        doc: what it holds.
        unit: unit of its values; empty for a pure number.
        label: its short name, a table heading; empty: its name without underscores.
        title: its name in a sentence; empty: its label.
        kind: ``identity`` (part of the key of a row), ``metric``, or ``provenance`` (differs from
            run to run).
        in_summary: whether the summary shows it; the table and TensorBoard show all columns.
        type: type of its values; ``floats``: a list of numbers, one per noise-level bin or knot.
        is_required: whether no row lacks it.
        source: source of the metric that it belongs to (see ``MetricSpec``); empty: it has none.
        better: which direction is better; empty: neither, or unknown.
        has_error: whether the column ``{name}_se`` holds its standard error.
        has_parts: whether the column ``{name}_parts`` holds the contributions of groups of samples
            to that error, by which two models are compared in pairs.
        error_doc: what that standard error is over.
        validation: name of the column of the same quantity on the validation split, by which a
            search can select; None if a search cannot use it.
        validation_doc: what that column holds; empty: derived from ``name``.
        is_exact: whether it is the exact value of what the other columns of its metric estimate.
    """

    name: str
    doc: str
    unit: str = ""
    label: str = ""
    title: str = ""
    kind: ColumnKind = "metric"
    type: Literal["float", "int", "bool", "text", "floats"] = "float"
    is_required: bool = False
    source: str = ""
    better: Literal["lower", "higher", ""] = ""
    in_summary: bool = False
    has_error: bool = True
    has_parts: bool = False
    error_doc: str = "its standard error"
    validation: str | None = None
    validation_doc: str = ""
    is_exact: bool = False

    def __post_init__(self) -> None:
        label = self.label or self.name.replace("_", " ")
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "title", self.title or label)

    @property
    def error_column(self) -> ColumnSpec | None:
        """The column of its standard error, if there is one."""
        if not self.has_error:
            return None
        return ColumnSpec(
            name=f"{self.name}_se",
            doc=self.error_doc,
            unit=self.unit,
            type=self.type,
            source=self.source,
            has_error=False,
        )

    @property
    def parts_column(self) -> ColumnSpec | None:
        """The column of the parts of its standard error, if there is one."""
        if not self.has_parts:
            return None
        return ColumnSpec(
            name=f"{self.name}_parts",
            doc="parts of its standard error by groups of samples; that of the difference of two "
            "models is the root of the sum of squared differences",
            unit=self.unit,
            type="floats",
            source=self.source,
            has_error=False,
        )

    @property
    def validation_column(self) -> ColumnSpec | None:
        """The column of the same quantity on the validation split, if there is one."""
        if self.validation is None:
            return None
        return ColumnSpec(
            name=self.validation,
            doc=self.validation_doc or f"{self.name} on the validation split",
            unit=self.unit,
            source=self.source,
            better=self.better,
        )

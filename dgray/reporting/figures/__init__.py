"""Figures of a report, drawn with matplotlib from the table."""

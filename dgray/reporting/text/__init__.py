"""Statements of a report, computed from the table."""

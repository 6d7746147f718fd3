"""The interactive part of the report: its data, which the page holds once, and its library."""

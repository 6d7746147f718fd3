"""Divergences and other scores, each with its standard error. Knows torch; not files or Ray."""

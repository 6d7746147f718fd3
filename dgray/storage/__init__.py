"""Runs in an object store: where they are, whole objects, one driver at a time, working copies.

Knows pyarrow's file systems and the run folder; neither the plan nor torch nor Ray.
"""

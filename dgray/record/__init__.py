"""The run folder: rows, checkpoints, locks, provenance and object stores. Needs no torch."""

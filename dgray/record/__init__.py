"""The run folder: rows, checkpoints, locks, provenance and object stores.

May import ``plan``, ``config`` and all packages below them; imports no torch.
"""

"""Order of the trials of a study: all of a grid, or points suggested by Optuna.

May import ``record``, ``plan``, ``config`` and all packages below them.
"""

"""Order of the trials of a study: all of a grid, or those suggested by Optuna."""

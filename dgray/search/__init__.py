"""Which trials a study runs next: all of a grid, or the points that Optuna asks for."""

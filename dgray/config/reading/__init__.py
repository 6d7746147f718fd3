"""Reader of the study file: YAML, overrides, axes, domains and rules. Needs no torch."""

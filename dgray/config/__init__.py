"""Models of the study file: frozen, strict pydantic models. Needs no torch."""

"""The study file: frozen strict models and their reader. Knows YAML and pydantic; no torch, no Ray."""

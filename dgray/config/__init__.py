"""The study file: frozen strict models and their reader. Knows YAML, pydantic; no torch, Ray."""

"""Measurements of speed; `python -m benchmarks` runs them."""

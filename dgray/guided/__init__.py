"""Guided models without a study: fit, guide, sample, score, store, and use in other libraries.

Samples have their own shape here, points (n, d) and images (n, C, H, W) with values in [-1, 1].
Imports torch, but neither runs nor engines.
"""

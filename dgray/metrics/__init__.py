"""Divergences and other scores, each with its standard error.

May import ``discriminator``, ``data`` and ``diffusion``; takes no configuration.
"""

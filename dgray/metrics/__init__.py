"""Divergences and other scores, each with its standard error.

May import ``diffusion`` and ``discriminator``; takes no configuration.
"""

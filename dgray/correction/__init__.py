"""Corrections of a base: denoisers made from denoisers, samplers made from samplers.

One file per correction, with its equation and source. May import ``base``, ``discriminator``,
``data`` and ``diffusion``; takes no configuration.
"""

"""Discriminators: networks, objectives, training, guidance and calibration.

May import ``data`` and ``diffusion``; takes no configuration.
"""

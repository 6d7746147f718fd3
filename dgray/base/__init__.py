"""Bases (pretrained denoisers): networks, importers and their training.

May import ``data`` and ``diffusion``; takes no configuration.
"""

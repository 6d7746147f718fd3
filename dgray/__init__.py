"""Hyperparameter studies of discriminator guidance for diffusion models, distributed with Ray."""

__version__ = "0.1.0"

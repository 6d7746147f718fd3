"""Denoiser networks: architectures, preconditioning and wrappers. Takes no configuration."""

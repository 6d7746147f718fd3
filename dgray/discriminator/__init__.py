"""Discriminators, their objectives, and guidance. Knows torch and dgray.diffusion; not files or Ray."""

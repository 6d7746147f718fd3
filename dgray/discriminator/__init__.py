"""Discriminators, objectives, guidance. Knows torch and dgray.diffusion; neither files nor Ray."""

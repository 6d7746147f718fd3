"""The data sets. Knows torch and dgray.diffusion; not networks, config or Ray."""

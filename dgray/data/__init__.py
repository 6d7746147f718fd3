"""Data sets: mixtures and images. May import ``diffusion``; takes no configuration."""

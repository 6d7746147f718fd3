"""Denoisers, samplers and likelihoods. Knows torch; not discriminators, config, files or Ray."""

"""Denoisers, samplers and likelihoods. Imports no other package of dgray."""

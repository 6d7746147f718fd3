"""Runs in object stores: objects, the lease of a driver, and its working copy."""

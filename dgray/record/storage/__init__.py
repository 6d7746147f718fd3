"""Runs in object stores: locations, transfers and leases. Needs no torch."""

"""Data, base and their samples as objects, built from a configuration.

May import ``config`` and the packages of the mathematics; the only place where the two meet.
"""

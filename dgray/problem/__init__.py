"""Data, base and their samples, built from a configuration, and artifacts that trials share.

The builders: may import ``config`` and ``plan`` as well as the packages of the mathematics.
"""

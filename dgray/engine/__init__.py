"""Where trials run: ``local`` (this process) or ``tune`` (Ray Tune).

Nothing else in dgray imports Ray.
"""

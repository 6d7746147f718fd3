"""Where trials run: ``local`` (this process) or ``tune`` (Ray Tune).

Only modules of this package import Ray; nothing else in dgray does.
"""

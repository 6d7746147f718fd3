"""Where trials run: ``local`` (this process) or ``tune`` (Ray Tune).

``tune``, ``narrator`` and ``ray_session`` import Ray; nothing else in dgray does.
"""

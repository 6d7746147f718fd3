"""Where trials run: ``local`` (this process) or ``tune`` (Ray Tune). Only ``tune`` imports Ray."""

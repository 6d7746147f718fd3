"""Pretrained denoisers (bases): networks, importers and their training. Takes no configuration."""

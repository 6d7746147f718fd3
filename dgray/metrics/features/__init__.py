"""Feature extractors: networks in whose feature space images are compared."""

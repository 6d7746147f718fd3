"""Feature extractors for images: bytes in, vectors out. Knows torch; not studies, rows or Ray."""

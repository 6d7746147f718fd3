"""Command lines, progress and summaries. May import every other package."""

"""Command line: arguments, progress and summaries. May import every other package."""

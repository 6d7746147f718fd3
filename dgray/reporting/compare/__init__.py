"""Comparison of several runs: what differs in their studies, and by how much in their metrics."""

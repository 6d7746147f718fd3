"""The plan of a study: its trials, their identifiers and their estimated cost.

May import ``config`` and ``catalogue``; imports no torch.
"""

"""The plan of a study: trials, their identifiers and their estimated cost. Needs no torch."""

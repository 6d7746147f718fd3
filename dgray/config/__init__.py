"""Models of the study file and its reader.

May import ``catalogue``; imports no torch.
"""

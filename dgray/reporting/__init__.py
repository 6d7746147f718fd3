"""Reports from rows: tables, statements, figures, page and TensorBoard files.

May import ``record``; imports neither ``config``, ``plan`` nor torch.
"""

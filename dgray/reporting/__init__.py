"""Reports from rows: tables, statements, figures, page and TensorBoard. Needs no torch."""

"""Rows -> table, finding, figures, page, TensorBoard. Knows pandas and matplotlib, no torch."""

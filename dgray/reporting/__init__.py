"""Rows -> table, finding, figures, page, TensorBoard. Knows pandas and matplotlib; not torch, not Ray."""

"""TensorBoard event files, written from the table."""

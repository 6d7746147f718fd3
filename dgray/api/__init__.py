"""Python interface: studies and runs as objects.

Imported on first use by ``dgray.load_study`` and its siblings. May import every package of dgray.
"""

"""Who writes the notebook that a user has open: its tabs, and every save that passes by."""

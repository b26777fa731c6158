"""A run: its directory, its steps and what is reported of it."""

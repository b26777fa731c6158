"""Examples, datasets and label spaces, and the files they are read from and written to."""

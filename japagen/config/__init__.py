"""The task file: its sections, and the data that it names."""

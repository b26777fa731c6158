"""Mixing ratios of the sources, and their label-equivalent value."""

"""Datasets, cards and annotation projects for other tools."""

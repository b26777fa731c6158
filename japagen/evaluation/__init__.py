"""Metrics of classifiers and of texts."""

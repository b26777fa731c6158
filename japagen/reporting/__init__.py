"""The report of a run, and the cards of datasets and models."""

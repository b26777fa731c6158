"""Filters, checks and corrections of synthetic texts."""

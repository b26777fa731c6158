"""Detects registers: plain, polite, honorific, spoken."""

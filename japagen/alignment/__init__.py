"""Brings synthetic text to gold's distributions."""

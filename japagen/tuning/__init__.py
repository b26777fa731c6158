"""Searches how to ask: instructions, shots and sampling, judged by gold alone."""

"""Weights synthetic texts so that their distribution matches the target's."""

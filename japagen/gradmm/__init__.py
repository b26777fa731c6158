"""Texts whose gradients match those of gold."""

"""Texts whose gradients move a classifier as gold's do: chosen, or synthesised (GRADMM)."""

"""Text whose gradients move a classifier as gold's do: chosen, edited or synthesised."""

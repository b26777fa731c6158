"""What is asked for: the task file, its sections and its kinds of label."""

"""The run directory: what it holds, what is fresh in it, and what a run reads at its start."""

"""People check a sample of a run's texts on a page of this machine."""

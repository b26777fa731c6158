"""The stages as a run calls them: each reads what it needs and hands the work on."""

"""How much each source counts beside gold, and what it is worth."""

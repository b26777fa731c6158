"""Rule-based conversion between registers."""

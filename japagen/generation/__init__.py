"""Plans what to request of a language model."""

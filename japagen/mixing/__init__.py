"""How much synthetic text to train on, found by cross-validation on gold."""

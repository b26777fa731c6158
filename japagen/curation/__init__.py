"""Turns down what should not be trained on."""

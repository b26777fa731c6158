"""Encoders and the compact classifier."""

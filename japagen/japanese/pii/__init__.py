"""Personal data in Japanese texts: detection and masking."""

"""Personal data in Japanese texts: detection, masking and fakes."""

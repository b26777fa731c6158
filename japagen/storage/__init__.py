"""Files: their formats, and how they are written so that nothing is lost."""

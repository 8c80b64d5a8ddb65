"""Chapter 06: a photo found among the faces."""

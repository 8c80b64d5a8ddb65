"""Chapter 05: surveys, directions and edits."""

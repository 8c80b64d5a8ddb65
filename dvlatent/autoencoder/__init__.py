"""Chapter 02: a network that orders pictures on a plane."""

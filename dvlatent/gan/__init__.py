"""Chapter 01: two networks with opposite tasks."""

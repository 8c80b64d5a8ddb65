"""Chapters 03, 05 and 06: what the library knows about photos of people."""

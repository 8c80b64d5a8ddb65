"""Chapters 03 and 04: the generator of faces."""

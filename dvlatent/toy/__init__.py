"""A drawn face whose truth is known."""

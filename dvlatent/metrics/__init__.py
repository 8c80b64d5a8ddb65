"""Measures of latent spaces, pictures, edits and filters."""

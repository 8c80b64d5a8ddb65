"""The interactive parts of the lessons: `morph`, a slider from one face to another, and `latent_map`, a plane to move about on."""

from dvlatent.widgets.latent_map import latent_map
from dvlatent.widgets.morph import morph

__all__ = ["latent_map", "morph"]

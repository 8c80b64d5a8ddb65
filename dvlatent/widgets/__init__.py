"""The interactive parts of the lessons: `morph`, a slider from one face to another. They work with ipywidgets 7.7 and 8."""

from dvlatent.widgets.morph import morph

__all__ = ["morph"]

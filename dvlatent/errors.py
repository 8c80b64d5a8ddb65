"""Every error that this library raises, and why.

    DvlatentError
    ├── AssetError            weights and data from other packages
    │   ├── AssetMissing      not installed yet
    │   └── AssetBroken       there, but cut short, changed or unreadable
    ├── CheckpointError       a file of weights that cannot be a network
    ├── ImageError            a picture that cannot be read or written
    ├── NoFace                a photo in which no face was found
    ├── DirectionMismatch     a direction used on a generator it was not found on
    ├── ShapeError            a tensor of the wrong shape
    ├── UnknownWords          a phrase that means nothing to the model of words
    └── TrainingDiverged      a training run whose numbers are no longer numbers

Every message says what was given, what was needed and what to do next.
"""


class DvlatentError(Exception):
    """The root: catch it to catch every error of this library."""


class AssetError(DvlatentError):
    """Something is wrong with the third-party weights and data."""


class AssetMissing(AssetError):
    """A weight or data file is not installed yet."""


class AssetBroken(AssetError):
    """A weight or data file is there, but cut short, changed or unreadable."""


class CheckpointError(DvlatentError):
    """A file of weights that cannot be the network it should be."""


class ImageError(DvlatentError):
    """A picture that cannot be read or written."""


class NoFace(DvlatentError):
    """A photo in which no face was found."""


class DirectionMismatch(DvlatentError):
    """A direction used on a generator that it was not found on."""


class ShapeError(DvlatentError, ValueError):
    """A tensor whose shape or values do not fit."""


class UnknownWords(DvlatentError):
    """A phrase that means nothing to the model of words."""


class TrainingDiverged(DvlatentError):
    """A training run that broke: a loss is infinite or undefined."""

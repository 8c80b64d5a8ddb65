"""Shared by all tests. `DVLATENT_SHAPES=1 pytest ...` also checks every shape written in a signature while the tests run."""

import os

from hypothesis import settings

SHAPES = bool(os.environ.get("DVLATENT_SHAPES"))
if SHAPES:  # before anything of dvlatent is imported; whole numbers pass for float, as they do for type checkers
    from jaxtyping import install_import_hook

    install_import_hook("dvlatent", "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))")

settings.register_profile("laws", deadline=None, derandomize=True, database=None, max_examples=5 if SHAPES else 25)
settings.load_profile("laws")

from store_place import _installed, place, unzip, whole  # noqa: E402, F401  (fixtures of the asset cache, after the import hook)

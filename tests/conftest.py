"""Shared by all tests. Tests marked `shapes` run with every shape and type in the signatures of floors 0 and 1 checked."""

import signal

import pytest
import torch
from hypothesis import settings
from jaxtyping import config as shapes
from jaxtyping import install_import_hook

HOOKED = [f"dvlatent.{name}" for name in ("types", "rng", "latents", "images", "directions")]  # before anything of dvlatent is imported
install_import_hook(HOOKED, "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))")  # 1 passes for 1.0
shapes.update("jaxtyping_disable", True)

settings.register_profile("laws", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("laws")


@pytest.fixture(scope="module")
def one_thread():
    """For many small operations: two threads would wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: the processes of our tests must hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "shapes: check the shapes in signatures while this test runs (unless its name says refuse)")


def pytest_runtest_setup(item):
    refusal = "refuse" in item.name  # our own words are tested there, and the check would speak first
    shapes.update("jaxtyping_disable", refusal or item.get_closest_marker("shapes") is None)


from store_place import _installed, place, unzip, whole  # noqa: E402, F401  (fixtures of the asset cache, after the import hook)

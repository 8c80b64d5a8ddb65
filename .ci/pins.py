"""Print .ci/constraints.txt for the environment that runs this: `make pins` after an upgrade that passed the tests.

Exact versions of everything installed, direct and indirect. Local suffixes (torch's +cpu) are dropped, so that one
file serves every machine; a version that gave up on an old Python says so in a marker, and pip chooses freely there.
"""

import re
import sys
from importlib import metadata

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

HEADER = """\
# The exact versions that the tests and notebooks last passed with, direct and indirect: what `make` installs.
# pyproject.toml says what may work (floors), this file says what did. Written by `make pins`; do not edit by hand.
# torch has no +cpu or +cu suffix here, so each machine takes its own build of the same version.
"""
OURS_OR_TOOLS = {"dvlatent", "pip", "setuptools", "wheel"}
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]

pins = {}
for dist in metadata.distributions():
    name = canonicalize_name(dist.metadata["Name"])
    if name in OURS_OR_TOOLS:
        continue
    allowed = SpecifierSet(re.sub(r"\.\*", "", dist.metadata["Requires-Python"] or ""))
    first, patch = next((python, patch) for python in PYTHONS for patch in range(30) if allowed.contains(f"{python}.{patch}"))
    marker = f' ; python_full_version >= "{first}.{patch}"' if patch else f' ; python_version >= "{first}"' if first != PYTHONS[0] else ""
    pins[name] = f"{name}=={dist.version.split('+')[0]}" + marker
sys.stdout.write(HEADER + "".join(pins[name] + "\n" for name in sorted(pins)))

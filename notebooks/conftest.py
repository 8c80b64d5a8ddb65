"""`pytest --nbval -n auto --dist loadfile notebooks`: lessons run beside each other as `build.py` runs them."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists()) / "notebooks"))

from build import cores, jobs_for, sources


def pytest_xdist_auto_num_workers(config):
    """Two at a time where cores and memory suffice, and no more threads than cores in all of them together."""
    jobs = jobs_for(len(sources([])))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // jobs, 1)))
    return jobs

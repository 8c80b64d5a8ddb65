"""`docs/floors.py` tells one smile on every floor and asserts each: it must stay true."""

import runpy
from pathlib import Path


def test_one_smile_on_every_floor(capsys):
    runpy.run_path(str(Path(__file__).parents[1] / "docs" / "floors.py"), run_name="__main__")
    assert capsys.readouterr().out.endswith("The house stands.\n")

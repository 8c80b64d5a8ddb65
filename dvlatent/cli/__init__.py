"""The command line: `dvlatent COMMAND`."""

from dvlatent.cli.main import main

__all__ = ["main"]

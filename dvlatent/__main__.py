"""`python -m dvlatent` is `dvlatent`."""

import sys

from dvlatent.cli import main

if __name__ == "__main__":
    sys.exit(main())

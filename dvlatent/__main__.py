"""`python -m dvlatent` is `dvlatent`."""

import sys

from dvlatent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m trioaction`` is ``trioaction``."""

import sys

from trioaction.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

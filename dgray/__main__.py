"""Command line ``python -m dgray``, the same as ``dgray``."""

import sys

from dgray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

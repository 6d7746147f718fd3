"""Command line ``python -m dgray.report RUN``: rebuild the report of a run from its rows."""

import sys

from dgray.cli.report import main

if __name__ == "__main__":
    sys.exit(main())

"""Command line ``python -m dgray.sample RUN``: draw samples from a corrected model."""

import sys

from dgray.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())

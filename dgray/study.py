"""Command line ``python -m dgray.study STUDY.yaml``: run a study, or resume it."""

import sys

from dgray.cli.study import main

if __name__ == "__main__":
    sys.exit(main())
